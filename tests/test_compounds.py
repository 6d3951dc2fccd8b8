"""BLEU by the paper's procedure: the authors' way to split compounds, and scores computed by hand."""

import json
import sys
from importlib import import_module
from math import exp
from pathlib import Path

import pytest
from fixtures_run import tiny_settings

from transformer.cli import main
from transformer.evaluation.compounds import paper_bleu, paper_words, split_compounds
from transformer.evaluation.metrics import corpus_scores
from transformer.recipe import train

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rich-text format", "rich ##AT##-##AT## text format"),
        ("Aix-en-Provence", "Aix ##AT##-##AT## en ##AT##-##AT## Provence"),
        ("a-b-c", "a ##AT##-##AT## b-c"),  # as Perl does: b is used up by the first match
        ("1-2", "1 ##AT##-##AT## 2"),
        ("a - b , -c d- --", "a - b , -c d- --"),  # no letter on one of the sides
        ("x--y", "x ##AT##-##AT## -y"),
        ("a–b", "a–b"),  # a dash is not a hyphen
        ("", ""),
    ],
)
def test_words_are_split_at_the_hyphens_that_the_script_splits(words, expected):
    assert split_compounds(words) == expected


def test_moses_words_keep_their_case_and_are_split():
    pytest.importorskip("sacremoses")
    line = 'Der US-Präsident (66) sagt: "Ja & Nein".'
    expected = 'Der US ##AT##-##AT## Präsident ( 66 ) sagt : " Ja & Nein " .'
    assert paper_words("de")(line) == expected


def test_half_of_a_compound_earns_credit_and_the_score_is_that_by_hand():
    pytest.importorskip("sacremoses")
    output, reference = "ein US-Arzt kam heute", "ein US-Amt kam heute"
    # ein US ##AT##-##AT## Arzt kam heute: 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, 0 of 3 groups of four,
    # which sacreBLEU counts as 1/2
    by_hand = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 2 / 3) ** 0.25
    score, signature = paper_bleu([output], [reference], "de")
    assert score == pytest.approx(by_hand)
    assert "tok:none" in signature
    # a compound counts as one word in sacreBLEU's tokenizer: 3 of 4 words, 1 of 3 pairs, 1/2 of 2, 1/4 of 1
    assert corpus_scores([output], [reference]).bleu == pytest.approx(
        100 * (3 / 4 * 1 / 3 * 1 / 2 / 2 * 1 / 4 / 1) ** 0.25
    )


def test_a_short_output_has_the_same_brevity_penalty_in_split_words():
    pytest.importorskip("sacremoses")
    output, reference = "a b c d e", "a b c d e f-g"  # 5 words against 8
    assert paper_bleu([output], [reference], "en")[0] == pytest.approx(100 * exp(1 - 8 / 5))


def test_without_sacremoses_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(ValueError, match=r"paper's procedure needs sacremoses; .*pip install .*moses"):
        paper_words("de")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return train(tiny_settings(tmp_path_factory.mktemp("run") / "run", max_steps=2))


def test_evaluate_adds_the_papers_figure_when_asked(run, tmp_path, capsys):
    pytest.importorskip("sacremoses")
    for language, line in (("en", "The US-based dog sleeps."), ("de", "Der US-Hund schläft.")):
        (tmp_path / f"newstest.{language}").write_text(f"{line}\n" * 3, encoding="utf-8")
    scoring = ["evaluate", "--run", str(run), "--data", str(tmp_path / "newstest"), "--device", "cpu"]
    file = tmp_path / "outputs.jsonl"
    assert main([*scoring, "--json", "--paper-bleu", "--output", str(file)]) == 0
    values = json.loads(capsys.readouterr().out)
    outputs = [json.loads(line)["output"] for line in file.read_text(encoding="utf-8").splitlines()]
    assert values["paper_bleu"] == paper_bleu(outputs, ["Der US-Hund schläft."] * 3, "de")[0]
    assert "tok:none" in values["paper_bleu_signature"]
    assert "tok:13a" in values["bleu_signature"]
    assert main(scoring) == 0
    assert "paper" not in capsys.readouterr().out
    assert main([*scoring, "--paper-bleu"]) == 0
    assert "BLEU by the paper's procedure (Moses tokens, compounds split)" in capsys.readouterr().out


def test_the_disturbed_reference_is_fixed_and_has_about_that_share_of_changes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    program = import_module("wmt14_bleu")
    lines = [" ".join(f"w{row}.{word}" for word in range(20)) for row in range(200)]
    assert program.disturbed(lines, 0.0, 14) == lines
    changed = program.disturbed(lines, 0.3, 14)
    assert changed == program.disturbed(lines, 0.3, 14) != program.disturbed(lines, 0.3, 15)
    kept = sum(
        one == other
        for line, original in zip(changed, lines, strict=True)
        for one, other in zip(line.split(), original.split(), strict=False)
    )
    assert 0 < kept < 0.7 * 4000  # dropped words move the rest of their line
    words = [set(line.split()) for line in lines]
    gone = sum(len(one - set(line.split())) for one, line in zip(words, changed, strict=True)) / 4000
    # two thirds of 0.3 are dropped or replaced; an exchange also saves the next word from its own change
    assert 0.2 * 0.8 < gone < 0.2
