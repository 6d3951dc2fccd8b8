"""The pronoun `it`, which is er, sie or es in German, depending on the noun that `it` refers to."""

from transformer.toyland.clauses import (
    BECAUSE,
    FINAL,
    GERMAN_COMMA,
    IT_OBJECT,
    LINK,
    MODAL,
    OBJECT,
    PLAIN,
    STOP,
    Clause,
    sentence,
)
from transformer.toyland.descriptions import about, called
from transformer.toyland.draft import Draft
from transformer.toyland.events import DEEDS, FATES, Event, start
from transformer.toyland.inflection import ACCUSATIVE, IT, NOMINATIVE, NOUN, Noun, nouns_of
from transformer.toyland.phrases import subject, thing
from transformer.toyland.tree import Branch, Leaf

# For each English noun: the events in which people do something to it. Verbs of two words are left out,
# because in English `it` usually comes between the two words (`try it on`).
_HANDLING = {
    noun.english: tuple(
        event
        for event in FATES[noun.english]
        if "animal" not in event.verb.subjects and " " not in event.verb.english
    )
    for noun in nouns_of("animal", "food", "drink", "readable", "thing", "clothes", "vehicle")
}
_HANDLED = tuple(NOUN[english] for english, events in _HANDLING.items() if events)
_ANIMALS = nouns_of("animal")
# For each English noun: the events after which the thing still exists, so that another person can want it.
_CONSUMING = ("eat", "drink", "cook")
_KEEPING = {
    english: tuple(event for event in events if event.verb.english not in _CONSUMING)
    for english, events in _HANDLING.items()
}
# For each English noun: the events that can be the reason, as in `because she wants to read it`. `have` and
# `find` are left out: the main clause and the reason are about two people, who are unlikely to have or find
# the same thing.
_WANTING = {
    english: tuple(event for event in events if event.verb.english not in ("have", "find"))
    for english, events in _HANDLING.items()
}
_STATES = tuple(
    adjective
    for adjective in _ANIMALS[0].adjectives
    if adjective.english in ("tired", "hungry", "sick", "old", "young")
)


def referring(draft: Draft) -> Branch:
    """A sentence with `it` and exactly one thing or animal that `it` can refer to."""
    draft.mark("pronoun")
    if draft.random() < 0.15:
        return _animal_acts(draft)
    noun = draft.pick(_HANDLED)
    keeping = _KEEPING[noun.english]
    wanted = bool(keeping) and draft.random() < 0.4
    event = draft.pick(keeping if wanted else _HANDLING[noun.english])
    # The reason must not repeat the verb, as in `I sell the book because she must sell it`.
    reasons = [reason for reason in _WANTING[noun.english] if wanted and reason.verb is not event.verb]
    one_object = event._replace(complement=_single_object, objects=(noun,))
    main = start(draft, one_object, subject(draft, event.subjects), PLAIN)
    joined = draft.random() < 0.7
    shape, link, mark = (FINAL, BECAUSE, GERMAN_COMMA) if joined else (PLAIN, None, STOP)
    if joined:
        draft.mark("subordinate")
    if reasons:
        after = _somebody_does_it(draft, noun, draft.pick(reasons), shape, link)
    else:
        after = _it_is(draft, noun, shape, link)
    return sentence(main.finish(), mark, after)


def _animal_acts(draft: Draft) -> Branch:
    """`The dog sleeps because it is tired.`"""
    draft.mark("subordinate")
    noun = draft.pick(_ANIMALS)
    event = draft.pick([deed for deed in DEEDS[noun.english] if not deed.verb.objects])
    main = start(draft, event, subject(draft, (noun,), singular=True, adjectives=0.0), PLAIN)
    reason = about(draft, FINAL, _it(noun, NOMINATIVE), draft.pick(_STATES).predicative, BECAUSE, negated=0.0)
    return sentence(main.finish(), GERMAN_COMMA, reason)


def _single_object(draft: Draft, clause: Clause, event: Event) -> None:
    phrase = thing(draft, event.objects[0], ACCUSATIVE, singular=True, adjectives=0.0)
    clause.roles[OBJECT] = phrase.node


def _it(noun: Noun, case: int) -> Leaf:
    return Leaf("PRP", "it", IT[noun.gender][case])


def _it_is(draft: Draft, noun: Noun, shape: int, link: Leaf | None) -> Branch:
    """A clause such as `it is old` or `it is called Velmora`."""
    pronoun = _it(noun, NOMINATIVE)
    if "animal" in noun.kinds and shape == PLAIN and draft.random() < 0.5:
        return called(draft, pronoun)
    return about(draft, shape, pronoun, draft.pick(noun.adjectives).predicative, link)


def _somebody_does_it(draft: Draft, noun: Noun, event: Event, shape: int, link: Leaf | None) -> Branch:
    """A clause such as `the man wants to sell it`.

    A clause with `because` has a modal verb, unless its verb describes a state.
    """
    handling = event._replace(complement=_pronoun_object, objects=(noun,))
    tense = MODAL if shape == FINAL and not event.verb.state else None
    clause = start(draft, handling, subject(draft, event.subjects), shape, tense=tense)
    clause.roles[LINK] = link
    return clause.finish()


def _pronoun_object(draft: Draft, clause: Clause, event: Event) -> None:  # noqa: ARG001
    clause.roles[IT_OBJECT] = _it(event.objects[0], ACCUSATIVE)
