"""What the phrases of one sentence share while it is made: chance and the phenomena seen so far."""

from collections.abc import Callable, Sequence
from typing import TypeVar

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
    """`random` yields floats in [0, 1); `float` draws alone are the same on every version of Python."""

    __slots__ = ("random", "seen")

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.seen: set[str] = set()

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def mark(self, phenomenon: str) -> None:
        """Note that the sentence shows this phenomenon."""
        self.seen.add(phenomenon)

    def phenomena(self) -> tuple[str, ...]:
        """Everything noted, in the order of `PHENOMENA`."""
        return tuple([phenomenon for phenomenon in PHENOMENA if phenomenon in self.seen])
