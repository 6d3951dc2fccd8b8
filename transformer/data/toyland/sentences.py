"""The kinds of sentence in toyland and how often each is said."""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate

from transformer.data.toyland.clauses import PLAIN, sentence
from transformer.data.toyland.counting import counting, telling_time
from transformer.data.toyland.descriptions import describing, naming
from transformer.data.toyland.draft import Draft
from transformer.data.toyland.events import EVENTS, GIVING, Event, add_circumstances, start
from transformer.data.toyland.phrases import subject
from transformer.data.toyland.questions import question
from transformer.data.toyland.references import referring
from transformer.data.toyland.relatives import relating
from transformer.data.toyland.subordination import reasoning, saying
from transformer.data.toyland.tree import Branch


def plain(draft: Draft) -> Branch:
    """Somebody does something, perhaps somewhere, at some time, or not."""
    return _statement(draft, draft.pick(EVENTS))


def giving(draft: Draft) -> Branch:
    """Somebody gives somebody something."""
    return _statement(draft, draft.pick(GIVING))


def _statement(draft: Draft, event: Event) -> Branch:
    negated = draft.random() < 0.16
    clause = start(draft, event, subject(draft, event.subjects, negated), PLAIN, negated)
    add_circumstances(draft, clause, event)
    return sentence(clause.finish())


# In per cent.
_KINDS: tuple[tuple[int, Callable[[Draft], Branch]], ...] = (
    (24, plain),
    (12, question),
    (9, saying),
    (8, reasoning),
    (12, relating),
    (10, giving),
    (10, referring),
    (7, counting),
    (4, describing),
    (1, naming),
    (3, telling_time),
)
_TOTALS = tuple(accumulate(share for share, _ in _KINDS))
_MAKERS = tuple(maker for _, maker in _KINDS)


def say(draft: Draft) -> Branch:
    """A random sentence."""
    return _MAKERS[bisect(_TOTALS, draft.random() * _TOTALS[-1])](draft)
