"""Events, and clauses about them. An event is a verb with the subjects and objects that suit it."""

from collections.abc import Callable
from typing import NamedTuple

from transformer.toyland.clauses import (
    FINAL,
    FRONT,
    FRONTED,
    GOAL,
    LINK,
    MODAL,
    OBJECT,
    PERFECT,
    PLAIN,
    PRESENT,
    RECEIVER,
    SUBJECT,
    TIME,
    TO_RECEIVER,
    Clause,
)
from transformer.toyland.draft import Draft
from transformer.toyland.inflection import (
    ACCUSATIVE,
    DATIVE,
    DATIVE_VERBS,
    GIVING_VERBS,
    HOME_VERBS,
    MOTION_VERBS,
    NOUNS,
    THIRD,
    TRAVEL_VERBS,
    VERBS,
    Noun,
    Verb,
    nouns_of,
)
from transformer.toyland.phrases import (
    MODAL_TIMES,
    PERFECT_TIMES,
    PRESENT_TIMES,
    Phrase,
    at_clock_time,
    name_leaf,
    place,
    receiver,
    subject,
    thing,
)
from transformer.toyland.tree import Branch, Leaf, Node

_NACH = Leaf("IN", "to", "nach")
_AUS = Leaf("IN", "from", "aus")
_IN = Leaf("IN", "in", "in")
_TO = Leaf("IN", "to", "")


class Event(NamedTuple):
    """A verb, the nouns that suit it, and `complement`, which adds the objects to a clause."""

    verb: Verb
    subjects: tuple[Noun, ...]
    objects: tuple[Noun, ...]
    complement: Callable[[Draft, Clause, "Event"], None]


def _no_object(draft: Draft, clause: Clause, event: Event) -> None:
    pass


def _direct_object(draft: Draft, clause: Clause, event: Event) -> None:
    put_object(clause, thing(draft, draft.pick(event.objects), ACCUSATIVE, clause.negated))


def put_object(clause: Clause, phrase: Phrase) -> None:
    """Add an object. If the object contains `kein`, it also negates the clause."""
    clause.roles[OBJECT] = phrase.node
    clause.kein = phrase.negates


def _dative_object(draft: Draft, clause: Clause, event: Event) -> None:  # noqa: ARG001
    draft.mark("dative")
    clause.roles[OBJECT] = receiver(draft).node


def _gift(draft: Draft, clause: Clause, event: Event) -> None:
    draft.mark("dative")
    node = receiver(draft).node
    if draft.random() < 0.6:
        clause.roles[RECEIVER] = node
    else:
        clause.roles[TO_RECEIVER] = Branch("PP", (_TO, node))
    _direct_object(draft, clause, event)


def _goal(draft: Draft, clause: Clause, event: Event) -> None:
    clause.roles[GOAL] = place(draft, ACCUSATIVE, draft.pick(event.objects))


def _town(draft: Draft, clause: Clause, event: Event) -> None:
    preposition = {"travel": _NACH, "come": _AUS, "live": _IN}[event.verb.english]
    clause.roles[GOAL] = Branch("PP", (preposition, name_leaf(draft)))


def _home(draft: Draft, clause: Clause, event: Event) -> None:
    if draft.random() < 0.5:
        _town(draft, clause, event)
    else:
        clause.roles[GOAL] = place(draft, DATIVE, draft.pick(event.objects))


def _event(verb: Verb, complement: Callable[[Draft, Clause, Event], None]) -> Event:
    return Event(verb, nouns_of(*verb.subjects), nouns_of(*verb.objects), complement)


GIVING = tuple(_event(verb, _gift) for verb in GIVING_VERBS)
TRANSITIVE = tuple(_event(verb, _direct_object) for verb in VERBS if verb.objects)
HELPING = tuple(_event(verb, _dative_object) for verb in DATIVE_VERBS)
EVENTS = (
    *TRANSITIVE,
    *(_event(verb, _no_object) for verb in VERBS if not verb.objects),
    *HELPING,
    *(_event(verb, _goal) for verb in MOTION_VERBS),
    *(_event(verb, _town) for verb in TRAVEL_VERBS),
    *(_event(verb, _home if verb.english == "live" else _town) for verb in HOME_VERBS),
)
# DEEDS maps each English noun to the events that can have it as subject. FATES maps it to the events that can
# have it as direct or dative object.
DEEDS = {noun.english: tuple(event for event in EVENTS if noun in event.subjects) for noun in NOUNS}
FATES = {
    noun.english: tuple(event for event in (*TRANSITIVE, *HELPING) if noun in event.objects) for noun in NOUNS
}
# A subject that is a name or a pronoun has no noun. Such a subject can do whatever a friend can do.
PERSON_DEEDS = DEEDS["friend"]


def deeds(phrase: Phrase) -> tuple[Event, ...]:
    """The events that can have this phrase as subject."""
    return DEEDS[phrase.noun.english] if phrase.noun else PERSON_DEEDS


def choose_tense(draft: Draft, verb: Verb, shape: int, person: int, negated: bool) -> int:
    """Choose a random tense (present, perfect or modal) that the verb and the person allow."""
    if verb.state:
        return PRESENT
    choice = draft.random()
    tense = PRESENT if choice < 0.5 else PERFECT if choice < 0.76 else MODAL
    if (
        verb.english == "read"
        and tense == PRESENT
        and person != THIRD
        and not negated
        and shape in (PLAIN, FRONTED, FINAL)
    ):
        # English `they read` could also be past tense.
        return MODAL
    return tense


def start(
    draft: Draft, event: Event, phrase: Phrase, shape: int, negated: bool = False, tense: int | None = None
) -> Clause:
    """Begin a clause with subject, verb and complements; times and places can still be added."""
    if tense is None:
        tense = choose_tense(draft, event.verb, shape, phrase.person, negated)
    clause = Clause(draft, shape, tense, negated)
    clause.person = phrase.person
    clause.roles[SUBJECT] = phrase.node
    event.complement(draft, clause, event)
    clause.add_verb(event.verb, wishes=not (phrase.noun and "transport" in phrase.noun.kinds))
    return clause


def add_circumstances(draft: Draft, clause: Clause, event: Event, share: float = 0.45) -> None:
    """Add a place, a time, both or neither, each at the start of the clause or in its usual position."""
    if clause.shape not in (PLAIN, FRONTED):
        return
    busy = clause.roles[OBJECT] is not None
    if event.verb.at_place and draft.random() < 0.25:
        if busy or draft.random() < 0.5:
            put_first(draft, clause, place(draft))
        elif clause.roles[GOAL] is None:
            clause.roles[GOAL] = place(draft)
    if event.verb.state or draft.random() >= share:
        return
    # With two objects, or with an object and `nicht`, German allows several positions for a time. But only
    # one translation may be correct, so in these clauses the time comes first or is left out.
    gift = clause.roles[RECEIVER] is not None or clause.roles[TO_RECEIVER] is not None
    may_follow = not gift and not (clause.negated and busy)
    if clause.shape == PLAIN and (draft.random() < 0.5 or not may_follow):
        put_first(draft, clause, time(draft, clause.tense))
    elif may_follow:
        clause.roles[TIME] = time(draft, clause.tense)


def statement(draft: Draft, event: Event) -> Clause:
    """A statement about the event, possibly negated, possibly with a place and a time."""
    negated = draft.random() < 0.16
    clause = start(draft, event, subject(draft, event.subjects, negated), PLAIN, negated)
    add_circumstances(draft, clause, event)
    return clause


def put_first(draft: Draft, clause: Clause, node: Node) -> None:
    """Put a time or place at the start of the clause; the German verb stays in second position."""
    draft.mark("verb_second")
    clause.shape = FRONTED
    clause.roles[FRONT] = node


def time(draft: Draft, tense: int) -> Branch:
    """A time that suits the tense: for example, the English perfect cannot take a time of day."""
    if tense == PERFECT:
        return draft.pick(PERFECT_TIMES)
    if draft.random() < 0.62:
        return at_clock_time(draft)
    return draft.pick(MODAL_TIMES if tense == MODAL else PRESENT_TIMES)


def happening(draft: Draft, shape: int, link: Leaf | None = None, negated_share: float = 0.12) -> Branch:
    """A clause about any event, without time and place; a subordinate clause begins with `link`."""
    event = draft.pick(EVENTS)
    negated = draft.random() < negated_share
    phrase = subject(draft, event.subjects, negated)
    clause = start(draft, event, phrase, shape, negated)
    clause.roles[LINK] = link
    return clause.finish()
