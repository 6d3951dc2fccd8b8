"""Every recipe loads and opens with its command; the paper's recipes have the paper's model sizes."""

import re
from pathlib import Path

import pytest
import torch
from helpers import count_parameters

from transformer.config import Settings
from transformer.config.files import load_settings
from transformer.model.build import build_model

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))


def test_every_config_loads():
    assert len(FILES) > 30
    assert not [path.name for path in FILES if load_settings(path) == Settings()], "equal to the defaults"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_begins_with_its_command_and_has_its_own_folder(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    opening = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    name = path.relative_to(ROOT).as_posix()
    assert any(f"transformer train --config {name}" in line for line in opening)
    assert load_settings(path).output == f"runs/{path.stem}"


def test_a_recipe_keeps_the_checkpoints_that_it_averages():
    averaged = {path: re.findall(r"--last (\d+)", path.read_text(encoding="utf-8")) for path in RECIPES}
    averaged = {path: max(map(int, counts)) for path, counts in averaged.items() if counts}
    assert {"wmt14_en_de_base", "wmt14_en_de_big"} <= {path.stem for path in averaged}
    for path, count in averaged.items():
        training = load_settings(path).training
        assert count <= min(training.keep, training.max_steps // training.save_every), path.name


@pytest.mark.parametrize(
    ("name", "parameters", "updates"),
    [("wmt14_en_de_base", 63_045_632, 100_000), ("wmt14_en_de_big", 214_171_648, 300_000)],
)
def test_the_papers_models_have_the_sizes_derived_by_hand(name, parameters, updates):
    settings = load_settings(ROOT / "configs" / f"{name}.yaml")
    with torch.device("meta"):
        model = build_model(settings.model)
    assert count_parameters(model) == parameters
    assert settings.model.vocab_size == settings.data.vocab_size == 37_000
    training = settings.training
    assert training.max_steps == updates
    assert (training.warmup_steps, training.label_smoothing, training.cooldown) == (4000, 0.1, 0)
    assert (settings.decoding.beam_size, settings.decoding.alpha) == (4, 0.6)
