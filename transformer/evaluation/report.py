"""The output of `transformer evaluate`: scores, examples, and toyland's table of phenomena."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transformer.evaluation.metrics import Scores, exact_match
from transformer.toyland import PHENOMENA, dictionary_translation


class PhenomenonScore(NamedTuple):
    """One line of the table of phenomena; `exact_match` and `dictionary` are percentages."""

    phenomenon: str
    sentences: int
    exact_match: float
    dictionary: float
    """The exact match of a word-for-word translation with a dictionary, as a baseline."""


def phenomenon_rows(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    phenomena: Sequence[Sequence[str]],
) -> Iterator[PhenomenonScore]:
    """Yield one row of scores for each grammatical phenomenon, over the sentences that contain it.

    The last row has the scores over all sentences.
    """
    baseline = [dictionary_translation(source) for source in sources]
    for phenomenon in (*PHENOMENA, "all"):
        rows = [row for row, tags in enumerate(phenomena) if phenomenon in (*tags, "all")]
        chosen = [references[row] for row in rows]
        yield PhenomenonScore(
            phenomenon,
            len(rows),
            exact_match([hypotheses[row] for row in rows], chosen),
            exact_match([baseline[row] for row in rows], chosen),
        )


def phenomenon_table(rows: Sequence[PhenomenonScore]) -> str:
    lines = [f"{'phenomenon':<14}{'sentences':>10}{'exact match':>13}{'word for word':>15}"]
    for row in rows:
        lines.append(
            f"{row.phenomenon:<14}{row.sentences:>10,}{row.exact_match:>11.1f} %{row.dictionary:>13.1f} %"
        )
    return "\n".join(lines)


def score_table(scores: Scores) -> str:
    return "\n".join(
        (
            f"sentences    {scores.sentences:,}",
            f"exact match  {scores.exact_match:.1f} %",
            f"BLEU         {scores.bleu:.1f}   {scores.bleu_signature}",
            f"chrF2        {scores.chrf:.1f}   {scores.chrf_signature}",
        )
    )


def examples(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], count: int
) -> Iterator[str]:
    """Yield the first `count` correct translations, then the first `count` wrong ones with references."""
    triples = list(zip(sources, hypotheses, references, strict=True))
    right = [triple for triple in triples if triple[1] == triple[2]]
    wrong = [triple for triple in triples if triple[1] != triple[2]]
    for source, hypothesis, _ in right[:count]:
        yield f"source     {source}\nright      {hypothesis}"
    for source, hypothesis, reference in wrong[:count]:
        yield f"source     {source}\nwrong      {hypothesis}\nreference  {reference}"
