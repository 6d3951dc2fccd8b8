"""Relative clauses about a subject or an object."""

from transformer.toyland.clauses import (
    CLOSING,
    FINAL,
    GERMAN_COMMA,
    LINK,
    OBJECT,
    OPENING,
    PLAIN,
    PRESENT,
    SUBJECT,
    Clause,
    sentence,
)
from transformer.toyland.draft import Draft
from transformer.toyland.events import (
    DEEDS,
    EVENTS,
    FATES,
    HELPING,
    TRANSITIVE,
    Event,
    choose_tense,
    put_first,
    start,
    time,
)
from transformer.toyland.inflection import (
    ACCUSATIVE,
    DATIVE,
    MANY,
    NOMINATIVE,
    PLURAL,
    RELATIVE_PRONOUNS,
    THIRD,
    Noun,
)
from transformer.toyland.phrases import Phrase, subject, thing
from transformer.toyland.tree import Branch, Leaf

_OPEN_EVENTS = tuple(event for event in TRANSITIVE if not event.verb.prefix and event.verb.english != "read")


def relating(draft: Draft) -> Branch:
    """A sentence with a relative clause."""
    return sentence((_about_subject if draft.random() < 0.55 else _about_object)(draft).finish())


def _about_subject(draft: Draft) -> Clause:
    event = draft.pick(EVENTS)
    negated = draft.random() < 0.1
    phrase = with_relative(draft, subject(draft, event.subjects, negated, nouns_only=True), event)
    clause = start(draft, event, phrase, PLAIN, negated)
    if draft.random() < 0.3 and not event.verb.state:
        put_first(draft, clause, time(draft, clause.tense))
    return clause


def _about_object(draft: Draft) -> Clause:
    """A sentence whose object has a relative clause.

    The relative clause has to follow the object directly, so nothing else may come after the object in
    German. The verb therefore has no separable prefix and is in the present tense. `read` is left out,
    because `they read` could also be past tense.
    """
    event = draft.pick(_OPEN_EVENTS)
    related = event._replace(complement=_related_object)
    clause = start(draft, related, subject(draft, event.subjects), PLAIN, tense=PRESENT)
    if draft.random() < 0.2 and not event.verb.state:
        put_first(draft, clause, time(draft, PRESENT))
    return clause


def _related_object(draft: Draft, clause: Clause, event: Event) -> None:
    # No adjective, because the relative clause may contradict it (`the old book that is new`). A name already
    # identifies its person, so it takes no relative clause.
    phrase = thing(draft, draft.pick(event.objects), ACCUSATIVE, adjectives=0.0)
    clause.roles[OBJECT] = with_relative(draft, phrase, event).node if phrase.noun else phrase.node


def with_relative(draft: Draft, phrase: Phrase, main: Event) -> Phrase:
    """The phrase followed by a relative clause; `main` is the event of the clause that the phrase is in."""
    assert phrase.noun is not None
    relative = _relative_clause(draft, phrase.noun, phrase.plural, main)
    return phrase._replace(node=Branch("NP", (phrase.node, relative)))


def _relative_clause(draft: Draft, noun: Noun, plural: bool, main: Event) -> Branch:
    """A relative clause about `noun`, as in `who sings`, `that is old` or `whom the child visits`."""
    draft.mark("relative")
    person = "person" in noun.kinds
    active = DEEDS[noun.english]
    choice = draft.random()
    if active and (choice < 0.55 or not person):
        event = _another(draft, active, main)
        pronoun = _relative_pronoun("who" if person else "that", noun, plural, NOMINATIVE)
        gap = Phrase(pronoun, MANY if plural else THIRD, noun)
        clause = start(draft, event, gap, FINAL, draft.random() < 0.1)
    elif noun.adjectives and choice < 0.3:
        clause = Clause(draft, FINAL, PRESENT, draft.random() < 0.15)
        clause.person = MANY if plural else THIRD
        clause.roles[SUBJECT] = _relative_pronoun("that", noun, plural, NOMINATIVE)
        clause.add_copula(draft.pick(noun.adjectives).predicative)
    else:
        clause = _object_relative(draft, noun, plural, main)
    clause.roles[OPENING] = clause.roles[CLOSING] = GERMAN_COMMA
    return clause.finish()


def _another(draft: Draft, events: tuple[Event, ...], main: Event) -> Event:
    """An event whose verb differs from that of the main clause."""
    return draft.pick_where(events, lambda event: event.verb is not main.verb)


def _object_relative(draft: Draft, noun: Noun, plural: bool, main: Event) -> Clause:
    event = _another(draft, FATES[noun.english], main)
    phrase = subject(draft, event.subjects)
    tense = choose_tense(draft, event.verb, FINAL, phrase.person, False)
    clause = Clause(draft, FINAL, tense)
    clause.person = phrase.person
    case = DATIVE if event in HELPING else ACCUSATIVE
    clause.roles[LINK] = _relative_pronoun("whom" if "person" in noun.kinds else "that", noun, plural, case)
    clause.roles[SUBJECT] = phrase.node
    clause.add_verb(event.verb)
    return clause


def _relative_pronoun(english: str, noun: Noun, plural: bool, case: int) -> Leaf:
    return Leaf("WP", english, RELATIVE_PRONOUNS[PLURAL if plural else noun.gender][case])
