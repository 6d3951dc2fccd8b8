"""If a run's folder is deleted, moved or replaced during training, this is noticed and the state is saved."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import events, tiny_settings
from test_forked_group import settings_of, shared, together
from test_resilience import assert_equal_end, at_update, knowing_each_outcome

from transformer.checkpoint import writing
from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.config import Settings
from transformer.config.files import load_settings, save_settings
from transformer.recipe import train
from transformer.training.rescue import FolderLostError

CHANGES = {
    "deleted": shutil.rmtree,
    "moved": lambda folder: folder.rename(folder.with_name("elsewhere")),
    "moved, an empty one in its place": lambda folder: (
        folder.rename(folder.with_name("elsewhere")),
        folder.mkdir(),
    ),
    "a copy in its place": lambda folder: (
        folder.rename(folder.with_name("elsewhere")),
        shutil.copytree(folder.with_name("elsewhere"), folder),
    ),
    "without settings": lambda folder: (folder / "config.yaml").unlink(),
    "without tokenizer": lambda folder: (folder / "tokenizer.model").unlink(),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return tiny_settings(tmp_path_factory.mktemp("straight") / "run", save_every=4, valid_every=100)


@pytest.fixture(scope="module")
def straight(settings) -> Run:
    return Run(train(settings))


@pytest.mark.parametrize("step", [1, 6], ids=["early", "in the last update"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_state_is_saved_as_a_new_run_that_continues_exactly(
    settings, straight, tmp_path, monkeypatch, capsys, change, step
):
    folder, saved = tmp_path / "run", tmp_path / "run-rescued"
    config = str(tmp_path / "run.yaml")
    save_settings(replace(settings, output=str(folder)), config)
    with monkeypatch.context() as patch:
        knowing_each_outcome(patch)  # so that nothing writes into the folder while it is deleted
        at_update(step, lambda: CHANGES[change](folder), patch)
        assert main(["train", "--config", config]) == 2
    error = capsys.readouterr().err
    assert "trained model" not in error
    said = error.splitlines()[-1]
    assert said.startswith(f"transformer train: error: {folder} was deleted, moved or replaced during the tr")
    assert said.endswith(f"training continues with --config {saved / 'config.yaml'} --resume")
    assert Run(saved).steps() == [4 if step == 1 else 6]
    if change.startswith(("deleted", "moved")):  # nothing new is written there
        assert not list(folder.glob("*"))
    assert main(["train", "--config", str(saved / "config.yaml"), "--resume"]) == 0
    assert_equal_end(Run(saved), straight)
    assert load_settings(saved / "config.yaml").output == str(saved)


def test_a_folder_that_is_lost_while_a_checkpoint_is_written_is_noticed_by_the_next(
    settings, straight, tmp_path, monkeypatch, capsys
):
    folder, original = tmp_path / "run", writing.save_file

    def lose_and_save(tensors, path, metadata):
        if folder in path.parents:
            # In one step: while rmtree empties a folder, the training may write its log there.
            folder.rename(tmp_path / "lost")
        original(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "save_file", lose_and_save)
        with pytest.raises(FolderLostError, match=r"run-rescued/config\.yaml --resume"):
            train(replace(settings, output=str(folder)))
    assert "update 4: no checkpoint could be written ([Errno 2]" in capsys.readouterr().err
    assert not folder.exists()
    saved = Run(tmp_path / "run-rescued")
    assert saved.steps() in ([5], [6])
    train(replace(settings, output=str(saved.path)), resume=True)
    assert_equal_end(saved, straight)


def test_no_earlier_rescue_is_overwritten(settings, tmp_path, monkeypatch):
    (tmp_path / "run-rescued").mkdir()
    (tmp_path / "run-rescued" / "mine").touch()
    at_update(2, lambda: shutil.rmtree(tmp_path / "run"), monkeypatch)
    with pytest.raises(FolderLostError, match=r"run-rescued-2/config\.yaml --resume"):
        train(replace(settings, output=str(tmp_path / "run")))
    assert Run(tmp_path / "run-rescued-2").marked("last")
    assert [path.name for path in (tmp_path / "run-rescued").iterdir()] == ["mine"]


def test_the_parent_may_have_gone_too(settings, tmp_path, monkeypatch):
    at_update(2, lambda: shutil.rmtree(tmp_path / "runs"), monkeypatch)
    with pytest.raises(FolderLostError, match=r"run-rescued/config\.yaml --resume"):
        train(replace(settings, output=str(tmp_path / "runs" / "run")))
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"run-rescued"}


def test_what_cannot_be_saved_anywhere_is_said_in_the_same_line(settings, tmp_path, monkeypatch):
    def lose():
        shutil.rmtree(tmp_path / "runs")
        (tmp_path / "runs").write_text("a file")

    at_update(2, lose, monkeypatch)
    with pytest.raises(
        FolderLostError, match=r"during the training, and .* cannot be saved elsewhere: .*runs"
    ):
        train(replace(settings, output=str(tmp_path / "runs" / "run")))


def test_a_second_training_in_the_place_of_the_first_keeps_its_folder(settings, tmp_path, monkeypatch):
    ours = replace(settings, output=str(tmp_path / "run"))
    began = []

    def replace_by_another():
        if not began:
            began.append(True)
            shutil.rmtree(ours.output)
            train(replace(ours, seed=2))

    at_update(2, replace_by_another, monkeypatch)
    with pytest.raises(FolderLostError):
        train(ours)
    other = Run(Path(ours.output))
    assert load_settings(other.config).seed == 2
    assert [entry["step"] for entry in events(other.path, "train")] == [1, 2, 3, 4, 5, 6]
    assert load_settings(Run(tmp_path / "run-rescued").config).seed == 1


def test_all_processes_of_a_group_say_it_and_end(tmp_path, monkeypatch):
    settings = shared(settings_of("translation", tmp_path, save_every=2))

    def work(rank: int) -> None:
        if rank == 0:
            at_update(1, lambda: shutil.rmtree(settings.output), monkeypatch)
        with pytest.raises(FolderLostError, match=r"-rescued/config\.yaml --resume"):
            train(settings)
        assert not torch.distributed.is_initialized()

    together(work)
