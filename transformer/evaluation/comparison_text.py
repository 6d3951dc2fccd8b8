"""The output of `transformer compare`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from transformer.evaluation.comparison import (
    Cut,
    Difference,
    PairedScore,
    Row,
    by_frequency,
    by_length,
    differences,
    exact_matches,
    paired_scores,
)
from transformer.evaluation.scored import Scored


def comparison(
    names: tuple[str, str],
    one: Sequence[Scored],
    other: Sequence[Scored],
    *,
    bleu_tokenizer: str,
    cut: Cut,
    training_words: Mapping[str, int] | None,
    show: int,
) -> str:
    """Return the whole output: scores, tables and example sentences.

    For each system, the examples are up to `show` sentences where the system is furthest ahead of the other.
    If `training_words` is None, the table by frequency in the training corpus is left out.
    """
    parts = [
        f"A  {names[0]}\nB  {names[1]}\n{len(one):,} sentences",
        score_table(list(paired_scores(one, other, bleu_tokenizer)), exact_matches(one, other)),
        table("BLEU by length of the reference", "words", "sentences", by_length(one, other, bleu_tokenizer)),
    ]
    if training_words is not None:
        rows = by_frequency(one, other, training_words, cut)
        parts.append(table("F1 of words by frequency in the training text", "occurrences", "words", rows))
    return "\n\n".join([*parts, *examples(differences(one, other), show)])


def score_table(scores: Sequence[PairedScore], exact: tuple[float, float]) -> str:
    lines = [f"{'':<12}{'A':>13}{'B':>13}{'B - A':>8}{'p':>8}"]
    for score in scores:
        left, right = (
            f"{value:.1f} ± {interval:.1f}"
            for value, interval in zip(score.values, score.intervals, strict=True)
        )
        lines.append(f"{score.name:<12}{left:>13}{right:>13}{difference(score.values):>8}{score.p:>8.4f}")
    left, right = (f"{value:.1f} %" for value in exact)
    lines.append(f"{'exact match':<12}{left:>13}{right:>13}{difference(exact):>8}")
    lines.append("p: how often resampling alone gives a difference as large as B - A (paired bootstrap)")
    return "\n".join([*lines, *(f"{score.name:<6} {score.signature}" for score in scores)])


def table(title: str, unit: str, counted: str, rows: Iterable[Row]) -> str:
    lines = [title, f"{unit:<14}{counted:>10}{'A':>8}{'B':>8}{'B - A':>8}"]
    for row in rows:
        left, right = row.values
        lines.append(
            f"{range_text(row):<14}{row.size:>10,}{left:>8.1f}{right:>8.1f}{difference(row.values):>8}"
        )
    return "\n".join(lines)


def range_text(row: Row) -> str:
    if row.last is None:
        return f"{row.first:,} or more"
    return f"{row.first:,}" if row.first == row.last else f"{row.first:,} to {row.last:,}"


def difference(values: tuple[float, float]) -> str:
    return f"{values[1] - values[0]:+.1f}"


def examples(found: Sequence[Difference], count: int) -> Iterator[str]:
    """Yield the sentences where each system is most ahead of the other, by chrF2 of the sentence."""
    for name, chosen in (("A", found), ("B", found[::-1])):
        sign = 1 if name == "A" else -1
        ahead = [each for each in chosen if sign * (each.values[0] - each.values[1]) > 0][:count]
        if ahead:
            yield f"where {name} is most ahead (chrF2 of the sentence)"
        for each in ahead:
            yield (
                f"source     {each.one.source}\nreference  {each.one.reference}\n"
                f"A {each.values[0]:>7.1f}  {each.one.output}\nB {each.values[1]:>7.1f}  {each.other.output}"
            )
