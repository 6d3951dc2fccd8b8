"""The state of one sentence while it is being generated: its random choices and grammatical phenomena."""

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
    versions of Python. The subclasses in `heldout.py` choose other names and numbers. The subclass in
    `oracle.py` searches for a given sentence by trying all options. The methods `begin`, `said`, `finished`
    and `expect` do nothing here. The subclass in `oracle.py` overrides them, so that it can give up as soon
    as the draft can no longer become the given sentence.
    """

    __slots__ = ("numbers", "random", "seen")

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.seen: set[str] = set()
        self.numbers: list[int] = []

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of the options, which are all equally likely."""
        return options[int(self.random() * len(options))]

    def pick_where(self, options: Sequence[T], suits: Callable[[T], bool]) -> T:
        """Choose an option for which `suits` is true; there must be at least one such option."""
        option = self.pick(options)
        while not suits(option):
            option = self.pick(options)
        return option

    def whole(self, share: float, first: int, count: int) -> int:
        """Choose one of `count` whole numbers that start at `first`; `share`, in [0, 1), decides which."""
        return first + int(share * count)

    def name(self) -> str:
        """Choose the name of a person or town."""
        return invented_name(self.random)

    def begin(self, tense: int, negated: bool) -> None:
        """Called at the start of a clause."""

    def said(self, nodes: Sequence[Node]) -> None:
        """Called as soon as some nodes that are adjacent in the English sentence have been chosen."""

    def finished(self, nodes: Sequence[Node], is_relative: bool) -> None:
        """Called at the end of a clause, with the nodes of the clause in English order."""

    def expect(self, clauses: int) -> None:
        """Called at the start of a sentence, with its number of clauses."""

    def mark(self, phenomenon: str) -> None:
        """Note that the sentence shows this phenomenon."""
        self.seen.add(phenomenon)

    def phenomena(self) -> tuple[str, ...]:
        """All phenomena noted so far, in the order of `PHENOMENA`."""
        return tuple([phenomenon for phenomenon in PHENOMENA if phenomenon in self.seen])
