"""Failures of checkpoints that all processes write: full disks, dead processes and moved folders.

The two processes are forked, as in `test_forked_group.py`. They find no memory for a copy of the whole state.
"""

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures_run import events
from test_distributed import assert_same_training
from test_forked_group import together
from test_fully_sharded import assert_same_moments, divided
from test_sharded_saving import few_updates, leftovers, save_in_parts
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from transformer.checkpoint import shards
from transformer.checkpoint.format import OPTIMIZER
from transformer.checkpoint.reading import read_manifest
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import Settings
from transformer.files import UNFINISHED
from transformer.recipe import train
from transformer.training import saving, state
from transformer.training.coordination import ProcessLostError
from transformer.training.log import Event
from transformer.training.rescue import FolderLostError

DISK_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
write_parts = HuggingFaceStorageWriter.write_data


@pytest.fixture(autouse=True)
def without_memory(monkeypatch):
    save_in_parts(monkeypatch)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return few_updates(tmp_path)


def full(*_: Any) -> None:
    raise DISK_FULL


def train_with_a_full_disk(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in two processes, of which the second can never write; both must report it at the end."""

    def work(rank: int) -> None:
        if rank == 1:
            monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", full)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            train(ours)

    together(work)


def fault_at(call: int, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process call `fault` instead of the `call`-th writing of parts; a checkpoint has two."""
    calls = []

    def write(*arguments: Any) -> Any:
        calls.append(arguments)
        return fault() if len(calls) == call else write_parts(*arguments)

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", write)


@pytest.mark.parametrize("death", ["writing", pytest.param("merging", marks=pytest.mark.slow)])
def test_a_process_that_dies_while_writing_leaves_the_previous_checkpoint_and_nothing_is_lost(
    settings, monkeypatch, death
):
    alone = Run(train(settings))
    ours = divided(settings)
    run = Run(Path(ours.output))
    blocks = shards.blocks

    def dying(*arguments: Any) -> Any:
        for number, block in enumerate(blocks(*arguments)):
            if run.steps() and number > 2:
                os._exit(0)
            yield block

    def work(rank: int) -> None:
        if death == "merging" and rank == 0:
            monkeypatch.setattr(shards, "blocks", dying)
        elif death == "writing" and rank == 1:
            fault_at(4, lambda: os._exit(0), monkeypatch)
        with pytest.raises(ProcessLostError, match="another process has died"):
            train(ours)

    together(work)
    assert run.steps() == [2]
    assert run.marked("last") == run.checkpoint(2)
    read_manifest(run.checkpoint(2))
    assert bool(leftovers(run)) == (death == "merging")  # of the process that died
    together(lambda _: train(ours, resume=True))
    assert_same_training(run, alone)
    assert_same_moments(run, alone)
    assert not leftovers(run)


def test_a_full_disk_of_one_process_does_not_stop_training(settings, monkeypatch):
    ours = divided(replace(settings, training=replace(settings.training, log_every=1)))

    def work(rank: int) -> None:
        if rank == 1:
            fault_at(3, full, monkeypatch)
        train(ours)

    together(work)
    run = Run(Path(ours.output))
    assert run.steps() == [2, 5, 6]
    (failure,) = events(run.path, "save_failed")
    assert failure["step"] == 4
    assert os.strerror(errno.ENOSPC) in failure["error"]
    assert not leftovers(run)


@pytest.mark.slow
def test_a_failed_attempt_counts_for_the_minutes_between_checkpoints(settings, monkeypatch):
    ours = divided(settings, save_every=100, save_minutes=150.0, log_every=100)
    start = time.monotonic()
    now = (start + 3600 * hour for hour in range(1, 100))
    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=time.sleep)
    monkeypatch.setattr(saving, "time", clock)
    monkeypatch.setattr(saving, "LAST_TRIES", (0.0,))
    train_with_a_full_disk(ours, monkeypatch)
    failures = events(Path(ours.output), "save_failed")
    assert [entry["step"] for entry in failures] == [3, 6, 6]  # an hour per reading of the clock


@pytest.mark.slow
def test_parts_that_could_not_be_merged_are_deleted_at_once(settings, monkeypatch):
    ours = divided(settings, log_every=100)
    run = Run(Path(ours.output))
    found_pieces = shards.found_pieces

    def merge(folder: Path) -> Any:
        return full() if run.steps() == [2] else found_pieces(folder)

    def look(event: Event) -> None:
        assert event.name != "save_failed" or not leftovers(run)

    def work(_: int) -> None:
        monkeypatch.setattr(shards, "found_pieces", merge)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            train(ours, on_event=look)

    monkeypatch.setattr(saving, "LAST_TRIES", ())
    together(work)
    assert [entry["step"] for entry in events(run.path, "save_failed")] == [4, 6]


@pytest.mark.slow
def test_the_last_checkpoint_is_tried_again_and_then_all_processes_report_the_error(settings, monkeypatch):
    ours = divided(settings)
    monkeypatch.setattr(saving, "LAST_TRIES", (0.0, 0.0))
    train_with_a_full_disk(ours, monkeypatch)
    run = Run(Path(ours.output))
    assert not run.steps()
    assert [entry["step"] for entry in events(run.path, "save_failed")][-3:] == [6, 6, 6]
    assert not leftovers(run)


@pytest.mark.slow
def test_the_state_of_a_run_whose_folder_was_moved_is_saved_in_parts_elsewhere(settings, tmp_path):
    ours = divided(settings)
    calls = []

    def move(_: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 3 and os.environ["RANK"] == "0":
            Path(ours.output).rename(tmp_path / "moved")
        return {}

    def work(_: int) -> None:
        with pytest.raises(FolderLostError, match="its last state was saved as a new run"):
            train(ours, figures=move)

    together(work)
    rescued = Run(Path(f"{ours.output}-rescued"))
    assert rescued.steps() == [4]
    assert read_tensors(rescued.checkpoint(4) / OPTIMIZER)
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before merging", "while merging"])
def test_the_last_state_survives_if_the_folder_is_moved_together_with_its_parts(
    settings, tmp_path, monkeypatch, moment
):
    alone = Run(train(settings))
    ours = divided(settings)
    run = Run(Path(ours.output))
    sharded_snapshot, found_pieces = state.TrainingState.sharded_snapshot, shards.found_pieces

    def move() -> None:
        if run.steps() == [2, 4]:  # the last checkpoint is about to be written
            run.path.rename(tmp_path / "moved")

    def snapshot(*arguments: Any) -> Any:
        taken = sharded_snapshot(*arguments)
        move()
        return taken

    def merge(folder: Path) -> Any:
        move()
        return found_pieces(folder)

    def work(rank: int) -> None:
        if rank == 0 and moment == "before merging":
            monkeypatch.setattr(state.TrainingState, "sharded_snapshot", snapshot)
        elif rank == 0:
            monkeypatch.setattr(shards, "found_pieces", merge)
        with pytest.raises(FolderLostError, match="its last state was saved as a new run"):
            train(ours)

    monkeypatch.setattr(saving, "LAST_TRIES", (0.0,))
    together(work)
    rescued = Run(Path(f"{ours.output}-rescued"))
    assert rescued.steps() == [6]
    assert_same_moments(rescued, alone)
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))
