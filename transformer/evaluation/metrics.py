"""BLEU and chrF by sacreBLEU, with their signatures, and exact match."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformer.data.text import text_list
from transformer.evaluation.bleu import make_bleu
from transformer.toyland import phrases


@dataclass(frozen=True)
class Scores:
    """Corpus scores in per cent, and how sacreBLEU computed them."""

    sentences: int
    bleu: float
    bleu_signature: str
    chrf: float
    chrf_signature: str
    exact_match: float


def corpus_scores(
    hypotheses: Sequence[str], references: Sequence[str], bleu_tokenizer: str = "13a"
) -> Scores:
    """Compute cased, detokenized BLEU, chrF2, and the percentage of lines that equal their reference."""
    from sacrebleu.metrics.chrf import CHRF

    hypotheses, references = text_list(hypotheses, "hypothesis"), text_list(references, "reference")
    if len(hypotheses) != len(references):
        raise ValueError(f"there are {len(hypotheses)} hypotheses for {len(references)} references")
    bleu, chrf = make_bleu(bleu_tokenizer), CHRF()
    bleu_score = bleu.corpus_score(hypotheses, [references]).score
    chrf_score = chrf.corpus_score(hypotheses, [references]).score
    return Scores(
        len(references),
        bleu_score,
        str(bleu.get_signature()),
        chrf_score,
        str(chrf.get_signature()),
        exact_match(hypotheses, references),
    )


def tokenized_bleu(
    hypotheses: Sequence[str], references: Sequence[str], cut: Callable[[str], str]
) -> tuple[float, str]:
    """Tokenized BLEU, which older papers report, and its signature; `cut` puts spaces between the words."""
    bleu = make_bleu("none")
    score = bleu.corpus_score([cut(line) for line in hypotheses], [[cut(line) for line in references]])
    return score.score, str(bleu.get_signature())


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The percentage of lines that equal their reference exactly; 0 if there are no lines."""
    pairs = list(zip(hypotheses, references, strict=True))
    return 100 * sum(hypothesis == reference for hypothesis, reference in pairs) / max(1, len(pairs))


def bracket_f1(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Labelled bracket F1 of toyland's parses (§6.3) in per cent; a malformed parse counts as empty."""
    found = expected = common = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        expected_phrases = Counter(phrases(reference))
        try:
            found_phrases = Counter(phrases(hypothesis))
        except ValueError:
            found_phrases = Counter()
        found += found_phrases.total()
        expected += expected_phrases.total()
        common += (found_phrases & expected_phrases).total()
    return 100 * 2 * common / max(1, found + expected)
