"""Comparing two systems on one test set: paired bootstrap, length, rare words, and single sentences."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from transformer.evaluation.bleu import make_bleu
from transformer.evaluation.metrics import exact_match
from transformer.evaluation.scored import Scored

LENGTHS = (1, 6, 11, 16, 21, 31, 51)
"""For each row of the table by length: the smallest number of words in the reference."""
FREQUENCIES = (0, 1, 2, 5, 10, 100, 1000)
"""For each row of the table by frequency: the smallest number of occurrences in the training corpus."""

Cut = Callable[[str], Sequence[str]]
"""A function that splits a string into words."""


class PairedScore(NamedTuple):
    """A metric for both systems: the two scores, half the width of each 95 % confidence interval, and the
    p-value of the difference."""

    name: str
    signature: str
    values: tuple[float, float]
    intervals: tuple[float, float]
    p: float


class Row(NamedTuple):
    """A row of a table: its range, its number of sentences or words, and each system's score (0 to 100)."""

    first: int
    last: int | None
    """None if the range has no end."""
    size: int
    values: tuple[float, float]


class Difference(NamedTuple):
    """A sentence for which the two systems have different outputs, with the chrF2 of each output."""

    one: Scored
    other: Scored
    values: tuple[float, float]


def require_same_text(one: Sequence[Scored], other: Sequence[Scored]) -> None:
    """Raise `ValueError` unless both systems translated the same sentences with the same references."""
    if len(one) != len(other):
        raise ValueError(
            f"the first system has {len(one)} sentences and the second has {len(other)}; "
            "compare outputs for the same text"
        )
    for number, (left, right) in enumerate(zip(one, other, strict=True), start=1):
        for name in ("source", "reference"):
            if getattr(left, name) != getattr(right, name):
                raise ValueError(
                    f"sentence {number}: the {name}s of the two systems differ; "
                    "compare outputs for the same text"
                )


def words_of(bleu_tokenizer: str) -> Cut:
    """Return a function that splits a string into the words that BLEU counts."""
    tokenizer = make_bleu(bleu_tokenizer).tokenizer
    return lambda text: tokenizer(text).split()


def paired_scores(
    one: Sequence[Scored], other: Sequence[Scored], bleu_tokenizer: str
) -> Iterator[PairedScore]:
    """Yield BLEU and chrF2 of both systems, with p-values by sacreBLEU's paired bootstrap.

    p says how often resampling alone gives a difference at least as large as the observed difference. If the
    two scores are equal, every sample has such a difference, and p is 1. sacreBLEU itself counts only samples
    with a larger difference, so its p would be nearly 0 for two equal systems. The signatures state the
    number of samples.
    """
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    systems: Any = [(name, [each.output for each in system]) for name, system in (("A", one), ("B", other))]
    references = [[each.reference for each in one]]
    metrics = {"BLEU": make_bleu(bleu_tokenizer), "chrF": CHRF()}
    signatures: Any
    results: Any
    signatures, results = PairedTest(systems, metrics, references, test_type="bs")()
    for name, signature in signatures.items():
        first, second = results[name]
        p = 1.0 if first.score == second.score else second.p_value
        yield PairedScore(name, str(signature), (first.score, second.score), (first.ci, second.ci), p)


def exact_matches(one: Sequence[Scored], other: Sequence[Scored]) -> tuple[float, float]:
    first, second = (
        exact_match([each.output for each in system], [each.reference for each in system])
        for system in (one, other)
    )
    return first, second


def by_length(one: Sequence[Scored], other: Sequence[Scored], bleu_tokenizer: str) -> Iterator[Row]:
    """Group the sentences by the number of words in the reference, and compute the BLEU of each group."""
    cut = words_of(bleu_tokenizer)
    lengths = [len(cut(sentence.reference)) for sentence in one]
    for first, last in ranges(LENGTHS):
        rows = [row for row, length in enumerate(lengths) if is_between(length, first, last)]
        if rows:
            bleu = make_bleu(bleu_tokenizer)
            references = [[one[row].reference for row in rows]]
            left, right = (
                bleu.corpus_score([system[row].output for row in rows], references).score
                for system in (one, other)
            )
            yield Row(first, last, len(rows), (left, right))


def by_frequency(
    one: Sequence[Scored], other: Sequence[Scored], counts: Mapping[str, int], cut: Cut
) -> Iterator[Row]:
    """Group the words by how often they occur in the training corpus, and compute the F1 of each group.

    If an output contains a word more often than the reference, the surplus occurrences count as wrong.
    """
    for first, last in ranges(FREQUENCIES):

        def chosen(text: str, first: int = first, last: int | None = last) -> "Counter[str]":
            return Counter(word for word in cut(text) if is_between(counts.get(word, 0), first, last))

        expected = [chosen(sentence.reference) for sentence in one]
        count = sum(words.total() for words in expected)
        if count:
            left, right = (
                word_f1([chosen(sentence.output) for sentence in system], expected) for system in (one, other)
            )
            yield Row(first, last, count, (left, right))


def word_f1(found: "Sequence[Counter[str]]", expected: "Sequence[Counter[str]]") -> float:
    right = sum((ours & theirs).total() for ours, theirs in zip(found, expected, strict=True))
    return 100 * 2 * right / sum(words.total() for words in (*found, *expected))


def word_counts(texts: Iterable[str], cut: Cut) -> "Counter[str]":
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cut(text))
    return counts


def differences(one: Sequence[Scored], other: Sequence[Scored]) -> list[Difference]:
    """Return the sentences with different outputs, sorted by the difference in chrF2.

    The list goes from the sentence where the first system is furthest ahead to the one where the second is.
    """
    from sacrebleu.metrics.chrf import CHRF

    chrf = CHRF()
    found = [
        Difference(
            left,
            right,
            (
                chrf.sentence_score(left.output, [left.reference]).score,
                chrf.sentence_score(right.output, [left.reference]).score,
            ),
        )
        for left, right in zip(one, other, strict=True)
        if left.output != right.output
    ]
    return sorted(found, key=lambda each: each.values[1] - each.values[0])


def ranges(starts: Sequence[int]) -> Iterator[tuple[int, int | None]]:
    yield from ((first, following - 1) for first, following in pairwise(starts))
    yield starts[-1], None


def is_between(value: int, first: int, last: int | None) -> bool:
    return first <= value and (last is None or value <= last)
