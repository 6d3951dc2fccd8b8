"""Sentences with subordinate clauses: reported speech (`she says that …`) and reasons (`because …`)."""

from transformer.toyland.clauses import (
    ASKED,
    BECAUSE,
    COMMA,
    FINAL,
    FRONTED,
    GERMAN_COMMA,
    LINK,
    PLAIN,
    PRESENT,
    QUESTION_MARK,
    STOP,
    SUBJECT,
    THAT,
    Clause,
    sentence,
)
from transformer.toyland.descriptions import FEELINGS, about, describe
from transformer.toyland.draft import Draft
from transformer.toyland.events import EVENTS, PERSON_DEEDS, happening, start
from transformer.toyland.inflection import FEMININE, MASCULINE, NEUTER, SAYING_VERBS, THIRD, nouns_of
from transformer.toyland.phrases import Phrase, subject
from transformer.toyland.tree import Branch, Leaf

_PEOPLE = nouns_of("person")
_HE = Leaf("PRP", "he", "er")
_SHE = Leaf("PRP", "she", "sie")


def saying(draft: Draft) -> Branch:
    """A sentence with `says`, `knows`, `believes` or `hopes`, followed by a `that` clause."""
    draft.mark("subordinate")
    verb = draft.pick(SAYING_VERBS)
    asked = verb.english in ("know", "believe") and draft.random() < 0.2
    negated = not asked and verb.english in ("know", "believe") and draft.random() < 0.3
    phrase = subject(draft, _PEOPLE, negated)
    main = Clause(draft, ASKED if asked else PLAIN, PRESENT, negated)
    main.person = phrase.person
    main.roles[SUBJECT] = phrase.node
    main.add_verb(verb)
    if asked:
        draft.mark("question")
    claim = main.finish()
    content = _property(draft, THAT) if draft.random() < 0.15 else happening(draft, FINAL, THAT)
    return sentence(claim, GERMAN_COMMA, content, mark=QUESTION_MARK if asked else STOP)


def _property(draft: Draft, link: Leaf) -> Branch:
    clause = describe(draft, FINAL)
    clause.roles[LINK] = link
    return clause.finish()


def reasoning(draft: Draft) -> Branch:
    """A sentence with a `because` clause, which may come before or after the main clause."""
    draft.mark("subordinate")
    event = draft.pick(EVENTS)
    first = draft.random() < 0.4
    negated = draft.random() < 0.14
    phrase = subject(draft, event.subjects, negated, adjectives=0.0)
    main = start(draft, event, phrase, FRONTED if first else PLAIN, negated)
    deed = main.finish()
    if first:
        draft.mark("verb_second")
        return sentence(_reason(draft, phrase), COMMA, deed)
    return sentence(deed, GERMAN_COMMA, _reason(draft, phrase))


def _reason(draft: Draft, phrase: Phrase) -> Branch:
    pronoun = _personal_pronoun(phrase)
    if pronoun is None or draft.random() < 0.4:
        return happening(draft, FINAL, BECAUSE)
    if draft.random() < 0.5:
        return about(draft, FINAL, pronoun, draft.pick(FEELINGS).predicative, BECAUSE)
    event = draft.pick(PERSON_DEEDS)
    clause = start(draft, event, Phrase(pronoun, THIRD), FINAL, draft.random() < 0.1)
    clause.roles[LINK] = BECAUSE
    return clause.finish()


def _personal_pronoun(phrase: Phrase) -> Leaf | None:
    """`he` or `she` for a phrase about one person; None for any other phrase.

    The result is also None for a neuter noun, because German then allows two pronouns: `das Mädchen` can be
    followed by `es` or by `sie`.
    """
    if phrase.noun is None or phrase.plural or "person" not in phrase.noun.kinds:
        return None
    return {MASCULINE: _HE, FEMININE: _SHE, NEUTER: None}[phrase.noun.gender]
