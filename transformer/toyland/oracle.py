"""The right translation of any sentence of toyland: the grammar run with every decision open.

The oracle says sentences as the generator does, but where the generator leaves a decision to chance, it tries
one way after the other, and turns back as soon as something is said that the given sentence does not hold.
So it knows no grammar of its own and cannot disagree with the one that makes the corpus.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer.toyland.clauses import MODAL, PERFECT
from transformer.toyland.corpus import Example
from transformer.toyland.draft import Draft
from transformer.toyland.generalisation import deeper, new_pair
from transformer.toyland.reading import Reading, unknown_words, words_of
from transformer.toyland.sentences import say
from transformer.toyland.tree import Branch, Node, english_text, german_text

T = TypeVar("T")
_MODALS = ("must", "can", "cannot", "should", "want", "wants")


def translate(sentence: str) -> str:
    """The only right translation; `ValueError` says that a sentence is outside toyland, and why if it can."""
    return analyse(sentence).target


def analyse(sentence: str) -> Example:
    """A sentence as the grammar makes it, with its tree; `ValueError` if the grammar cannot say it."""
    sentence = " ".join(sentence.split())
    if unknown := unknown_words(sentence):
        raise ValueError(f"outside toyland: unknown word{'s' * (len(unknown) > 1)} {', '.join(unknown)}")
    if not sentence.endswith((".", "?")):
        raise ValueError("outside toyland: a sentence ends in . or ?")
    if sentence[0].islower():
        raise ValueError("outside toyland: a sentence begins with a capital letter")
    reading = Reading(sentence)
    for maker in (say, deeper, new_pair):
        if (example := _search(maker, sentence, reading)) is not None:
            return example
    raise ValueError(f"outside toyland: all words are known, but the grammar never says {sentence!r}")


def _search(maker: Callable[[Draft], Branch], sentence: str, reading: Reading) -> Example | None:
    decisions = _Decisions()
    while True:
        draft = _OpenDraft(decisions, reading)
        try:
            tree = maker(draft)
        except _DeadEnd:
            pass
        else:
            if english_text(tree) == sentence:
                return Example(sentence, german_text(tree), draft.phenomena(), tree)
        if not decisions.turn_back():
            return None


class _DeadEnd(Exception):  # noqa: N818
    """What has been said so far cannot become the sentence."""


class _Decisions:
    """The way that is being tried: at each fork the branch taken and how many there are."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        self.position = 0

    def choose(self, count: int) -> int:
        """A branch of the next fork: the one to try now, or on new ground the first."""
        if self.position == len(self.taken):
            self.taken.append((0, count))
        self.position += 1
        return self.taken[self.position - 1][0]

    def turn_back(self) -> bool:
        """Start again with the next branch at the last fork that has one; False if every way was tried."""
        self.position = 0
        while self.taken:
            branch, count = self.taken.pop()
            if branch + 1 < count:
                self.taken.append((branch + 1, count))
                return True
        return False


class _Interval:
    """What is known of a number that chance would have drawn."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low, self.high = 0.0, 1.0


class _Open(float):
    """`scale · u + shift` for a u in [0, 1) that is never drawn: each comparison is a fork and narrows u."""

    def __new__(cls, *_: object) -> "_Open":
        return super().__new__(cls, 0.0)

    def __init__(
        self, decisions: _Decisions, interval: _Interval, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        self.decisions = decisions
        self.interval = interval
        self.scale = scale
        self.shift = shift

    def __lt__(self, limit: float) -> bool:
        interval = self.interval
        border = (limit - self.shift) / self.scale
        if border >= interval.high or border <= interval.low:
            return border >= interval.high
        # The likelier way first.
        likely = 2 * border > interval.low + interval.high
        is_less = likely if self.decisions.choose(2) == 0 else not likely
        if is_less:
            interval.high = border
        else:
            interval.low = border
        return is_less

    def __ge__(self, limit: float) -> bool:
        return not self < limit

    def __sub__(self, other: float) -> "_Open":
        return _Open(self.decisions, self.interval, self.scale, self.shift - other)

    def __mul__(self, factor: float) -> "_Open":
        return _Open(self.decisions, self.interval, self.scale * factor, self.shift * factor)

    def __truediv__(self, divisor: float) -> "_Open":
        return self * (1.0 / divisor)


class _OpenDraft(Draft):
    """A draft whose decisions are all open, as far as the sentence leaves a choice."""

    __slots__ = ("decisions", "reading")

    def __init__(self, decisions: _Decisions, reading: Reading) -> None:
        super().__init__(self._undecided)
        self.decisions = decisions
        self.reading = reading

    def _undecided(self) -> float:
        return _Open(self.decisions, _Interval())

    def pick(self, options: Sequence[T]) -> T:
        return self._one_of(self.reading.possible(options))

    def pick_where(self, options: Sequence[T], suits: Callable[[T], bool]) -> T:
        return self._one_of([option for option in self.reading.possible(options) if suits(option)])

    def _one_of(self, options: Sequence[T]) -> T:
        if not options:
            raise _DeadEnd
        return options[self.decisions.choose(len(options)) if len(options) > 1 else 0]

    def whole(self, share: float, first: int, count: int) -> int:  # noqa: ARG002
        # Prices are said in thousands of what was drawn.
        said = [*self.reading.numbers, *(number // 1000 for number in self.reading.numbers)]
        return self._one_of([number for number in dict.fromkeys(said) if first <= number < first + count])

    def name(self) -> str:
        return self._one_of(self.reading.names)

    def begin(self, tense: int, negated: bool) -> None:
        holds = self.reading.holds
        if negated and not (holds("not") or holds("cannot")):
            raise _DeadEnd
        if tense == PERFECT and not (holds("have") or holds("has")):
            raise _DeadEnd
        if tense == MODAL and not any(map(holds, _MODALS)):
            raise _DeadEnd

    def expect(self, clauses: int) -> None:
        if clauses != self.reading.clauses:
            raise _DeadEnd

    def finished(self, nodes: Sequence[Node], is_relative: bool) -> None:
        words = " ".join(words_of(nodes))
        if not (self.reading.holds(words) if is_relative else self.reading.holds_clause(words)):
            raise _DeadEnd

    def said(self, nodes: Sequence[Node]) -> None:
        if not self.reading.holds(" ".join(words_of(nodes))):
            raise _DeadEnd
