"""The kinds of sentence in toyland and their frequencies."""

from bisect import bisect
from collections.abc import Callable
from itertools import accumulate

from transformer.toyland.clauses import sentence
from transformer.toyland.counting import counting, telling_time
from transformer.toyland.descriptions import describing, naming
from transformer.toyland.draft import Draft
from transformer.toyland.events import EVENTS, GIVING, statement
from transformer.toyland.questions import question
from transformer.toyland.references import referring
from transformer.toyland.relatives import relating
from transformer.toyland.subordination import reasoning, saying
from transformer.toyland.tree import Branch


def plain(draft: Draft) -> Branch:
    """A statement about any event, possibly negated, possibly with a place and a time."""
    return sentence(statement(draft, draft.pick(EVENTS)).finish())


def giving(draft: Draft) -> Branch:
    """A statement in which a person gives, sends or shows something to another person."""
    return sentence(statement(draft, draft.pick(GIVING)).finish())


# For each kind: its percentage of all sentences, its number of clauses, and the function that makes it.
_KINDS: tuple[tuple[int, int, Callable[[Draft], Branch]], ...] = (
    (24, 1, plain),
    (12, 1, question),
    (9, 2, saying),
    (8, 2, reasoning),
    (12, 2, relating),
    (10, 1, giving),
    (10, 2, referring),
    (7, 1, counting),
    (4, 1, describing),
    (1, 1, naming),
    (3, 1, telling_time),
)
_TOTALS = tuple(accumulate(share for share, _, _ in _KINDS))


def say(draft: Draft) -> Branch:
    """Make a random sentence."""
    _, clauses, maker = _KINDS[bisect(_TOTALS, draft.random() * _TOTALS[-1])]
    draft.expect(clauses)
    return maker(draft)
