"""The state of one sentence while it is generated: randomness and the phenomena so far."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer.toyland.names import invented_name
from transformer.toyland.tree import Node

PHENOMENA = (
    "verb_second",
    "perfect",
    "modal",
    "separable",
    "subordinate",
    "relative",
    "agreement",
    "dative",
    "pronoun",
    "negation",
    "question",
    "number",
    "clock",
    "name",
)

T = TypeVar("T")


class Draft:
    """`random` yields floats in [0, 1); `float` draws alone are the same on every version of Python.

    Subclasses decide otherwise: the oracle runs the grammar with every decision open, and the splits for
    generalisation name and count differently.
    """

    __slots__ = ("numbers", "random", "seen")

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.seen: set[str] = set()
        self.numbers: list[int] = []

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def pick_where(self, options: Sequence[T], suits: Callable[[T], bool]) -> T:
        """One of the options that suit, of which there is at least one."""
        option = self.pick(options)
        while not suits(option):
            option = self.pick(options)
        return option

    def whole(self, share: float, first: int, count: int) -> int:
        """One of `count` whole numbers from `first` on, `share` of the way."""
        return first + int(share * count)

    def name(self) -> str:
        """What somebody or some town is called."""
        return invented_name(self.random)

    def begin(self, tense: int, negated: bool) -> None:
        """A clause has begun."""

    def said(self, nodes: Sequence[Node]) -> None:
        """Called with nodes that are adjacent in English."""

    def finished(self, nodes: Sequence[Node], is_relative: bool) -> None:
        """Called with the nodes of the English side of a clause."""

    def expect(self, clauses: int) -> None:
        """Called at the start of a sentence with this many clauses."""

    def mark(self, phenomenon: str) -> None:
        """Note that the sentence shows this phenomenon."""
        self.seen.add(phenomenon)

    def phenomena(self) -> tuple[str, ...]:
        """Everything noted, in the order of `PHENOMENA`."""
        return tuple([phenomenon for phenomenon in PHENOMENA if phenomenon in self.seen])
