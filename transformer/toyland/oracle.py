"""Finds the correct translation of any toyland sentence by running the grammar with backtracking.

The oracle generates sentences with the code that generates the corpus. Where that code makes a random choice,
the oracle tries one option after another, and backtracks as soon as the output does not occur in the given
sentence. Because both use the same grammar, the oracle and the corpus cannot disagree.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer.toyland.clauses import MODAL, PERFECT
from transformer.toyland.corpus import Example
from transformer.toyland.draft import Draft
from transformer.toyland.generalisation import deeper, new_pair
from transformer.toyland.kinds import say
from transformer.toyland.reading import Reading, unknown_words, words_of
from transformer.toyland.tree import Branch, Node, english_text, german_text

T = TypeVar("T")
LONGEST = 60
"""Sentences with more words than this number are not parsed, because parsing takes quadratic time. Sentences
of the corpus have at most a third as many words."""
_MODALS = ("must", "can", "cannot", "should", "want", "wants")


def translate(sentence: str) -> str:
    """The only correct translation of a sentence.

    Raises `ValueError` with the reason if the sentence is outside toyland.
    """
    return analyse(sentence).target


def analyse(sentence: str) -> Example:
    """Find a sentence's translation, phenomena and tree.

    Raises `ValueError` if the grammar cannot produce the sentence.
    """
    sentence = " ".join(sentence.split())
    if (reason := obviously_outside(sentence)) is not None:
        raise ValueError(reason)
    reading = Reading(sentence)
    for maker in (say, deeper, new_pair):
        if (example := _search(maker, sentence, reading)) is not None:
            return example
    raise ValueError(f"outside toyland: all words are known, but the grammar never produces {sentence!r}")


def why_outside(sentence: str) -> str | None:
    """Why a sentence is outside toyland, or `None` if the grammar can produce the sentence."""
    try:
        analyse(sentence)
    except ValueError as error:
        return str(error)
    return None


def obviously_outside(sentence: str) -> str | None:
    """Like `why_outside`, but checks only words, length, first letter and punctuation, without parsing.

    The sentence may therefore be outside toyland even if the result is `None`.
    """
    if unknown := unknown_words(sentence):
        return f"outside toyland: unknown word{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
    if len(sentence.split()) > LONGEST:
        return f"outside toyland: no sentence has more than {LONGEST} words"
    if not sentence.rstrip().endswith((".", "?")):
        return "outside toyland: a sentence ends in . or ?"
    if sentence.lstrip()[0].islower():
        return "outside toyland: a sentence begins with a capital letter"
    return None


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
    """Raised when the output so far cannot be part of the given sentence."""


class _Decisions:
    """The path that the search is trying: for each choice, the branch taken and the number of branches."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        self.position = 0

    def choose(self, count: int) -> int:
        """The branch to take at the next choice of the path; branch 0 if this choice is new."""
        if self.position == len(self.taken):
            self.taken.append((0, count))
        self.position += 1
        return self.taken[self.position - 1][0]

    def turn_back(self) -> bool:
        """Backtrack to the last choice that has an untried branch, and start a path that takes this branch.

        Returns False if all paths have been tried.
        """
        self.position = 0
        while self.taken:
            branch, count = self.taken.pop()
            if branch + 1 < count:
                self.taken.append((branch + 1, count))
                return True
        return False


class _Interval:
    """Bounds of a number that the generator would have drawn at random; the search narrows the bounds."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low, self.high = 0.0, 1.0


class _Open(float):
    """Stands for a random number without drawing it: `scale · u + shift` for an unknown u in [0, 1).

    If a comparison could go either way, the search chooses the result, which narrows the interval of u.
    """

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
        # Try the more probable branch first.
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
    """A draft that, for each random choice, tries every option that the given sentence allows."""

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
        # A price of 5,000 in the sentence may have been drawn as 5 and then multiplied by 1,000.
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
