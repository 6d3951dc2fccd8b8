"""Sentences that never occur in training: more deeply nested clauses, and held-out pairs of words."""

from transformer.toyland.clauses import (
    BECAUSE,
    FINAL,
    GERMAN_COMMA,
    LINK,
    PLAIN,
    PRESENT,
    SUBJECT,
    THAT,
    Clause,
    sentence,
)
from transformer.toyland.descriptions import describe_noun
from transformer.toyland.draft import Draft
from transformer.toyland.events import (
    EVENTS,
    FATES,
    TRANSITIVE,
    Event,
    happening,
    put_object,
    start,
    statement,
)
from transformer.toyland.heldout import ADJECTIVE_PAIRS, VERB_PAIRS, pairs
from transformer.toyland.inflection import ACCUSATIVE, ADJECTIVES, NOUN, SAYING_VERBS, nouns_of
from transformer.toyland.phrases import subject, thing
from transformer.toyland.relatives import with_relative
from transformer.toyland.tree import Branch, Leaf

_PEOPLE = nouns_of("person")


def deeper(draft: Draft) -> Branch:
    """A main clause and two subordinate clauses; training sentences have at most two clauses in all."""
    draft.expect(3)
    draft.mark("subordinate")
    return draft.pick((_saying_about_one_who, _because_one_who, _saying_because, _saying_that_one_says))(
        draft
    )


def _saying_about_one_who(draft: Draft) -> Branch:
    """`She says that the boy who sings sleeps.`"""
    return sentence(_claim(draft, PLAIN), GERMAN_COMMA, _one_who(draft, THAT))


def _because_one_who(draft: Draft) -> Branch:
    """`She waits because the boy who sings sleeps.`"""
    return sentence(happening(draft, PLAIN), GERMAN_COMMA, _one_who(draft, BECAUSE))


def _saying_because(draft: Draft) -> Branch:
    """`She says that the boy sleeps because the man sings.`"""
    content = happening(draft, FINAL, THAT)
    return sentence(
        _claim(draft, PLAIN), GERMAN_COMMA, content, GERMAN_COMMA, happening(draft, FINAL, BECAUSE)
    )


def _saying_that_one_says(draft: Draft) -> Branch:
    """`She says that the boy knows that the man sings.`"""
    first, second = _claim(draft, PLAIN), _claim(draft, FINAL, THAT)
    return sentence(first, GERMAN_COMMA, second, GERMAN_COMMA, happening(draft, FINAL, THAT))


def _claim(draft: Draft, shape: int, link: Leaf | None = None) -> Branch:
    """The clause `she says` of a sentence such as `She says that the boy sleeps.`"""
    verb = draft.pick(SAYING_VERBS)
    phrase = subject(draft, _PEOPLE)
    clause = Clause(draft, shape, PRESENT)
    clause.person = phrase.person
    clause.roles[LINK] = link
    clause.roles[SUBJECT] = phrase.node
    clause.add_verb(verb)
    return clause.finish()


def _one_who(draft: Draft, link: Leaf) -> Branch:
    """A subordinate clause whose subject has a relative clause."""
    event = draft.pick(EVENTS)
    phrase = with_relative(draft, subject(draft, event.subjects, nouns_only=True), event)
    clause = start(draft, event, phrase, FINAL)
    clause.roles[LINK] = link
    return clause.finish()


_NEW_ADJECTIVES: dict[str, list[str]] = {}
for _adjective, _nouns in pairs(ADJECTIVE_PAIRS).items():
    for _noun in _nouns:
        _NEW_ADJECTIVES.setdefault(_noun, []).append(_adjective)
# The nouns and events of the lexicon that occur in held-out pairs, restricted to these pairs. Each noun has
# only the adjectives that are held out with it, and each event has only the objects that are held out with
# it.
NEW_QUALITIES = tuple(
    NOUN[noun]._replace(adjectives=tuple(word for word in ADJECTIVES if word.english in words))
    for noun, words in _NEW_ADJECTIVES.items()
)
NEW_DEEDS = tuple(
    event._replace(objects=tuple(NOUN[noun] for noun in pairs(VERB_PAIRS)[event.verb.english]))
    for event in TRANSITIVE
    if event.verb.english in pairs(VERB_PAIRS)
)


def new_pair(draft: Draft) -> Branch:
    """`The dog is happy.`, `She sees a sad cat.`, `He washes the dog.`"""
    draft.expect(1)
    return draft.pick((_new_predicate, _new_attribute, _new_deed, _new_deed))(draft)


def _new_predicate(draft: Draft) -> Branch:
    return sentence(describe_noun(draft, draft.pick(NEW_QUALITIES)).finish())


def _new_attribute(draft: Draft) -> Branch:
    noun = draft.pick(NEW_QUALITIES)
    event = draft.pick(FATES[noun.english])
    described = event._replace(objects=(noun,), complement=_described_object)
    return sentence(statement(draft, described).finish())


def _new_deed(draft: Draft) -> Branch:
    return sentence(statement(draft, draft.pick(NEW_DEEDS)).finish())


def _described_object(draft: Draft, clause: Clause, event: Event) -> None:
    put_object(clause, thing(draft, event.objects[0], ACCUSATIVE, clause.negated, adjectives=1.0))
