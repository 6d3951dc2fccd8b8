"""Every released checkpoint format stays readable, and the error for a newer format gives its version."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import tiny_model

from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.format import FORMAT_VERSION, MODEL, OPTIMIZER, with_current_names
from transformer.checkpoint.pretrained import load_run
from transformer.checkpoint.reading import read_manifest, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import load_model, read_tensors, unique_tensors
from transformer.checkpoint.writing import write_checkpoint
from transformer.config.errors import UsageError
from transformer.config.files import load_settings
from transformer.recipe import train
from transformer.testing.parity.samples import randomised

DATA = Path(__file__).parent / "data"


def test_a_run_of_format_1_computes_what_it_did():
    """Written by the first version, whose checkpoints also contain the random state for dropout."""
    model, tokenizer, _ = load_run(DATA / "run_v1", task="translation", device="cpu")
    with torch.no_grad():
        logits = model(torch.tensor([[5, 6, 7, 2]]), torch.tensor([[1, 8, 9]]))[0, -1, :4]
    torch.testing.assert_close(logits, torch.tensor([-2.415075, -1.574304, 2.126480, -2.361121]))
    assert tokenizer.encode(["the apple"]) == [[271, 282, 287, 303, 303, 293, 283]]


def test_a_run_of_format_1_can_be_continued(tmp_path):
    folder = Path(shutil.copytree(DATA / "run_v1", tmp_path / "run"))
    settings = load_settings(folder / "config.yaml")
    longer = replace(settings.training, max_steps=62, valid_every=100)
    train(replace(settings, output=str(folder), training=longer), resume=True)
    state = read_state(Run(folder).marked("last"))
    assert state["step"] == 62
    assert (
        3.8 < state["best"] <= 3.86867
    )  # the recorded best was kept, and the last checkpoint is slightly better


def train_to(run: Path, step: int) -> Run:
    """Continue a run up to this update and save a checkpoint there."""
    settings = load_settings(run / "config.yaml")
    longer = replace(settings.training, max_steps=step, valid_every=100, save_every=1, keep=9)
    train(replace(settings, output=str(run), training=longer), resume=True)
    return Run(run)


def test_a_continued_run_of_format_1_writes_format_2_under_the_present_names(tmp_path):
    run = train_to(Path(shutil.copytree(DATA / "run_v1", tmp_path / "run")), 61)
    old, new = run.checkpoint(60), run.checkpoint(61)
    assert read_manifest(old)["format_version"] == 1
    assert read_manifest(new)["format_version"] == FORMAT_VERSION == 2
    for name in (MODEL, OPTIMIZER):
        before, after = read_tensors(old / name), read_tensors(new / name)
        assert before.keys() != after.keys()
        assert with_current_names(before, after).keys() == after.keys()
    assert "decoder.blocks.0.cross_attention.w_q.weight" in read_tensors(new / MODEL)


def test_moments_of_format_1_are_continued(tmp_path):
    """One update changes a moving average only slightly, so it must still be close to the stored one."""
    run = train_to(Path(shutil.copytree(DATA / "run_v1", tmp_path / "run")), 61)
    after = read_tensors(run.checkpoint(61) / OPTIMIZER)
    before = with_current_names(read_tensors(run.checkpoint(60) / OPTIMIZER), after)
    for name in after:
        if name.endswith(".step"):
            assert (before[name], after[name]) == (60, 61)
        if name.endswith(".exp_avg_sq"):
            assert (after[name] >= 0.98 * before[name] * (1 - 1e-6)).all()


def test_checkpoints_of_both_formats_have_a_mean(tmp_path):
    run = train_to(Path(shutil.copytree(DATA / "run_v1", tmp_path / "run")), 61)
    found = read_tensors(average_checkpoints(run, 2) / MODEL)
    new = read_tensors(run.checkpoint(61) / MODEL)
    old = with_current_names(read_tensors(run.checkpoint(60) / MODEL), new)
    for name, tensor in new.items():
        torch.testing.assert_close(found[name], (old[name] + tensor) / 2)


def test_a_mean_of_format_1_alone_is_read(tmp_path):
    run = Run(Path(shutil.copytree(DATA / "run_v1", tmp_path / "run")))
    averaged, alone = (
        load_run(path, task="translation", device="cpu").model
        for path in (average_checkpoints(run, 1), run.path)
    )
    for one, other in zip(averaged.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_of_format_1_is_read_from_the_hub(monkeypatch):
    def download(name, **_):
        assert name == "someone/old-model"
        return str(DATA / "run_v1")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = load_run("someone/old-model", task="translation", device="cpu").model
    for one, other in zip(
        model.parameters(),
        load_run(DATA / "run_v1", task="translation", device="cpu").model.parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only", "encoder_only"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_names_of_format_1_are_read_for_every_kind(tmp_path, kind, tie_embeddings):
    options = {"kind": kind, "tie_embeddings": tie_embeddings, "norm": "pre", "positions": "learned"}
    original, other = tiny_model(**options), tiny_model(**options)
    randomised(original)
    embedding = "target_embedding." if kind == "encoder_decoder" else "embedding."
    weights = {
        name.replace("decoder.embedding.", embedding).removeprefix("decoder."): tensor
        for name, tensor in unique_tensors(original).items()
    }
    assert not any(name.startswith("decoder.") for name in weights)
    write_checkpoint(tmp_path / "old", tensors={MODEL: weights}, state={}, tokenizer_hash="")
    load_model(other, tmp_path / "old")
    for name, tensor in original.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_custom_model_keeps_its_names():
    """Even if it uses the module names of format 1, or both old and new names."""
    names = {"blocks.0.weight": 1.0, "decoder.blocks.0.weight": 2.0, "embedding.weight": 3.0}
    stored = {name: torch.tensor(value) for name, value in names.items()}
    assert with_current_names(stored, names) == stored
    assert with_current_names(stored, ["embedding.weight"]) == stored
    assert with_current_names(stored, []) == stored


def test_settings_of_a_newer_format_are_refused(tiny_run, tmp_path):
    text = (tiny_run / "config.yaml").read_text()
    assert text.startswith("format_version: 1\n")
    newer = tmp_path / "config.yaml"
    newer.write_text(text.replace("format_version: 1", "format_version: 2"))
    with pytest.raises(UsageError, match=r"config.yaml: format version 2, but this version .* reads 1"):
        load_settings(newer)
