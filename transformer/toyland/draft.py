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
    """Makes the random choices for one sentence. Subclasses may choose differently.

    `random` returns floats in [0, 1). No other random functions are used, because they may change between
    versions of Python. The oracle's subclass tries all options, and the subclasses of the generalisation
    splits choose other names and numbers.
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
        """The whole number at the fraction `share` of the range of `count` numbers that starts at `first`."""
        return first + int(share * count)

    def name(self) -> str:
        """The name of a person or town."""
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
