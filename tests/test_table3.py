"""Table 3: the recipes, the rows of the package and the sizes of the models agree."""

import json
from pathlib import Path

import pytest

from transformer.cli import main
from transformer.config import ModelConfig, Settings
from transformer.config.command_line import read_settings
from transformer.config.files import build_settings, read_file
from transformer.evaluation.table3 import ROWS, Table3Row, count_parameters, table

CONFIGS = Path(__file__).parents[1] / "configs"
PRINTED = 11
"""Number of rows for which the paper prints the model size."""
EXACT = {"base": 63_045_632, "big": 214_171_648}


def parameters_by_hand(config: ModelConfig) -> int:
    """The sum of the sizes of the paper's matrices, computed without a model."""
    d, h, d_ff = config.d_model, config.num_heads, config.d_ff
    d_k, d_v = config.d_k or d // h, config.d_v or d // h
    attention = 2 * d * h * d_k + 2 * d * h * d_v
    feed_forward = 2 * d * d_ff + d_ff + d
    norm = 2 * d
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    positions = 2 * config.max_positions * d if config.positions == "learned" else 0
    return config.num_layers * (encoder_layer + decoder_layer) + config.vocab_size * d + positions


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    """The parameter count of each row's model."""
    return {row.name: count_parameters(row.config()) for row in ROWS}


def test_every_model_has_the_size_derived_by_hand(counted: dict[str, int]) -> None:
    assert counted == {row.name: parameters_by_hand(row.config()) for row in ROWS}
    assert {name: counted[name] for name in EXACT} == EXACT


def test_our_sizes_are_near_the_printed_ones(counted: dict[str, int]) -> None:
    """The paper's counts include a larger vocabulary and biases; see docs/table3.md."""
    printed = {row.name: row.millions for row in ROWS if row.millions}
    assert len(printed) == PRINTED
    ours = {name: counted[name] / 1e6 for name in printed}
    assert ours == pytest.approx(printed, rel=0.07)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_recipe_changes_what_the_row_changes(row: Table3Row) -> None:
    recipe = CONFIGS / f"table3/{row.name}.yaml"
    assert read_file(recipe) == {"output": f"runs/table3/{row.name}", **row.settings()}
    base = CONFIGS / "wmt14_en_de_base.yaml"
    settings, _ = read_settings([f"--config={base}", f"--config={recipe}"], prog="transformer train")
    assert settings == build_settings(Settings, read_file(base) | read_file(recipe))
    assert settings.model == row.config()


def test_every_row_has_a_recipe_and_every_recipe_a_row() -> None:
    names = [row.name for row in ROWS]
    assert sorted(path.stem for path in (CONFIGS / "table3").iterdir()) == sorted(names)
    assert len(set(names)) == 20


def test_the_recipes_say_what_the_paper_reports() -> None:
    for row in ROWS:
        text = (CONFIGS / f"table3/{row.name}.yaml").read_text(encoding="utf-8")
        assert f"row {row.name}: " in text
        assert f"perplexity {row.perplexity:.2f} " in text
        assert f"{row.bleu} BLEU" in text


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == table().splitlines()
    base = "base 6 512 2048 8 64 64 0.1 0.1 100,000 4.92 25.8 65 63,045,632"
    assert lines[1].split() == base.split()
    assert lines[6].split() == ["B1", "16", "5.16", "25.1", "58", f"{parameters_by_hand(ROWS[5].config()):,}"]


def test_the_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in rows] == [row.name for row in ROWS]
    assert rows[-1] == {
        "row": "big",
        "settings": ROWS[-1].settings(),
        "perplexity": 4.33,
        "bleu": 26.4,
        "paper_millions": 213,
        "parameters": 214_171_648,
    }
