"""Constituency parsing as translation (§6.3): the bracketed text and its score."""

import pytest

from transformer.data.corpus import CorpusError, load_parallel
from transformer.evaluation.metrics import bracket_f1
from transformer.toyland import Constituent, phrases

GOLD = "(ROOT (S (NP (DT the ) (NN man ) ) (VB sleeps ) ) (. . ) )"


def test_phrases_are_the_brackets_that_hold_brackets() -> None:
    assert phrases(GOLD) == [Constituent("NP", 0, 2), Constituent("S", 0, 3), Constituent("ROOT", 0, 4)]


@pytest.mark.parametrize(
    ("hypothesis", "expected"),
    [
        (GOLD, 100.0),
        ("(ROOT (S (VP (DT the ) (NN man ) ) (VB sleeps ) ) (. . ) )", 100 * 2 * 2 / 6),  # one label wrong
        ("(ROOT (S (NP (XX the ) (NN man ) ) (VB sleeps ) ) (. . ) )", 100.0),  # word labels are ignored
        ("(ROOT (DT the ) (NN man ) (VB sleeps ) (. . ) )", 100 * 2 * 1 / 4),
        ("(ROOT (S (NP (DT the ) (NN man ) ) (VB sleeps )", 0.0),
        ("", 0.0),
    ],
)
def test_bracket_f1_by_hand(hypothesis: str, expected: float) -> None:
    assert bracket_f1([hypothesis], [GOLD]) == pytest.approx(expected)


def test_bracket_f1_counts_the_corpus_as_one() -> None:
    other = "(ROOT (A (B b ) ) (. . ) )"
    assert bracket_f1([GOLD, ""], [GOLD, other]) == pytest.approx(100 * 2 * 3 / (3 + 5))


def test_toyland_has_parses_as_targets() -> None:
    table = load_parallel("toyland:test[:20]", "en", "parse")
    assert table.column_names == ["source", "target"]
    assert all(target.startswith("(ROOT ") for target in table["target"])
    with pytest.raises(CorpusError, match="toyland goes from en to de or parse, not from en to fr"):
        load_parallel("toyland:test[:2]", "en", "fr")
