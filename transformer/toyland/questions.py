"""Yes/no questions, and questions with who, what, where, when or why."""

from transformer.toyland.clauses import (
    ASKED,
    FRONT,
    MODAL,
    PLAIN,
    PRESENT,
    QUESTION_MARK,
    TIME,
    Clause,
    sentence,
)
from transformer.toyland.draft import Draft
from transformer.toyland.events import EVENTS, PERSON_DEEDS, Event, start, time
from transformer.toyland.inflection import THIRD
from transformer.toyland.phrases import Phrase, subject
from transformer.toyland.tree import Branch, Leaf

_WHO = Phrase(Leaf("WP", "who", "wer"), THIRD)
_WHAT = Leaf("WP", "what", "was")
_WHERE = Leaf("WRB", "where", "wo")
_WHY = Leaf("WRB", "why", "warum")
_WHEN = Leaf("WRB", "when", "wann")
_WHAT_EVENTS = tuple(
    event for event in EVENTS if event.objects and not {"person", "animal", "place"} & set(event.verb.objects)
)
_PLACED_EVENTS = tuple(event for event in EVENTS if event.verb.at_place)
_TIMED_EVENTS = tuple(event for event in EVENTS if not event.verb.state)


def question(draft: Draft) -> Branch:
    """A question of a random kind."""
    draft.mark("question")
    return sentence(draft.pick(_WAYS_TO_ASK)(draft).finish(), mark=QUESTION_MARK)


def _ask_whether(draft: Draft) -> Clause:
    event = draft.pick(EVENTS)
    clause = start(draft, event, subject(draft, event.subjects), ASKED)
    if not event.verb.state and draft.random() < 0.3:
        clause.roles[TIME] = time(draft, clause.tense)
    return clause


def _ask_who(draft: Draft) -> Clause:
    event = draft.pick(PERSON_DEEDS)
    clause = start(draft, event, _WHO, PLAIN)
    if not event.verb.state and draft.random() < 0.3:
        clause.roles[TIME] = time(draft, clause.tense)
    return clause


def _ask_what(draft: Draft) -> Clause:
    event = draft.pick(_WHAT_EVENTS)
    # `what` replaces the object.
    clause = start(draft, event._replace(complement=_ask_for_object), subject(draft, event.subjects), ASKED)
    return clause


def _ask_for_object(draft: Draft, clause: Clause, event: Event) -> None:  # noqa: ARG001
    clause.roles[FRONT] = _WHAT


def _ask_when(draft: Draft) -> Clause:
    event = draft.pick(_TIMED_EVENTS)
    # English does not combine `when` with the perfect tense.
    tense = MODAL if draft.random() < 0.4 else PRESENT
    clause = start(draft, event, subject(draft, event.subjects), ASKED, tense=tense)
    clause.roles[FRONT] = _WHEN
    return clause


def _ask_where(draft: Draft) -> Clause:
    event = draft.pick(_PLACED_EVENTS)
    clause = start(draft, event, subject(draft, event.subjects), ASKED)
    clause.roles[FRONT] = _WHERE
    return clause


def _ask_why(draft: Draft) -> Clause:
    event = draft.pick(EVENTS)
    negated = draft.random() < 0.3
    clause = start(draft, event, subject(draft, event.subjects, negated), ASKED, negated)
    clause.roles[FRONT] = _WHY
    return clause


_WAYS_TO_ASK = (
    _ask_whether,
    _ask_whether,
    _ask_whether,
    _ask_who,
    _ask_what,
    _ask_when,
    _ask_where,
    _ask_why,
)
