"""Every format that a released version has written stays readable; one of the future is refused by name."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from transformer.checkpoint.pretrained import load_pretrained
from transformer.checkpoint.reading import read_state
from transformer.checkpoint.run import Run
from transformer.config.errors import UsageError
from transformer.config.files import load_settings
from transformer.recipe import train

DATA = Path(__file__).parent / "data"


def test_a_run_of_format_1_computes_what_it_did():
    """Written by the first version, with dropout's random states beside the moments."""
    model, tokenizer, _ = load_pretrained(DATA / "run_v1", task="translation", device="cpu")
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7, 2]]), torch.tensor([[1, 8, 9]]))[0, -1, :4]
    torch.testing.assert_close(logits, torch.tensor([-2.415075, -1.574304, 2.126480, -2.361121]))
    assert tokenizer.encode(["the apple"]) == [[271, 282, 287, 303, 303, 293, 283]]


def test_a_run_of_format_1_goes_on(tmp_path):
    folder = Path(shutil.copytree(DATA / "run_v1", tmp_path / "run"))
    settings = load_settings(folder / "config.yaml")
    longer = replace(settings.training, max_steps=62, valid_every=100)
    train(replace(settings, output=str(folder), training=longer), resume=True)
    state = read_state(Run(folder).marked("last"))
    assert state["step"] == 62
    assert 3.8 < state["best"] <= 3.86867  # the old best is known, and the new end is a little better


def test_settings_of_a_newer_format_are_refused(tiny_run, tmp_path):
    text = (tiny_run / "config.yaml").read_text()
    assert text.startswith("format_version: 1\n")
    newer = tmp_path / "config.yaml"
    newer.write_text(text.replace("format_version: 1", "format_version: 2"))
    with pytest.raises(UsageError, match=r"config.yaml: format version '2', but this version .* reads 1"):
        load_settings(newer)
