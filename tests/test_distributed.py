"""Several processes train like a single one: same losses, same parameters, every example once per epoch."""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from fixtures_run import TINY_MODEL, events, tiny_settings
from fork_server import python

from transformer.checkpoint.format import MODEL
from transformer.checkpoint.reading import read_manifest, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import Settings
from transformer.config.files import save_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.recipe import train
from transformer.tasks.translation import TranslationTask
from transformer.training.coordination import ProcessLostError
from transformer.training.distributed import Group, process_group
from transformer.training.interruption import stop_requests
from transformer.training.updates import updates

CPU = torch.device("cpu")
TESTS = Path(__file__).parent
BOTH = {"rtol": 1e-4, "atol": 2e-5}
"""Tolerance after six updates of Adam for float32 sums that are added up in a different order."""


def torchrun(
    processes: int,
    settings: Settings,
    *options: str,
    program: tuple[str, ...] = ("-m", "transformer"),
    executable: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Train under torchrun with these settings, which are written to a file next to the run's folder.

    Torchrun and its processes run in `executable`, by default in forks of the server.
    """
    executable = executable or python()
    config = Path(settings.output).with_suffix(f".{processes}.yaml")
    save_settings(settings, config)
    command = [executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += [str(processes), *options, *program, "train", "--config", str(config), "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON_EXEC": executable}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def losses(run: Run) -> dict[int, float]:
    """The loss of each update in the log."""
    return {entry["step"]: entry["loss"] for entry in events(run.path, "train") if entry["loss"] is not None}


def assert_same_training(ours: Run, theirs: Run) -> None:
    one, other = ours.marked("last"), theirs.marked("last")
    states = [read_state(folder) for folder in (one, other)]
    assert [states[0][key] for key in ("step", "batches", "text")] == [
        states[1][key] for key in ("step", "batches", "text")
    ]
    tensors, expected = (read_tensors(folder / MODEL) for folder in (one, other))
    torch.testing.assert_close(tensors, expected, **BOTH)
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-4)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """Six updates of four batches without dropout; epochs have five batches, so updates span epochs."""
    made = tiny_settings(
        tmp_path_factory.mktemp("alone") / "run",
        data={"valid": None},
        accumulate=4,
        save_every=3,
        tokens_per_batch=200,
    )
    return replace(made, model=replace(TINY_MODEL, dropout=0.0))


@pytest.fixture(scope="module")
def alone(settings) -> Run:
    return Run(train(settings))


def changed(settings: Settings, output: Path, **training: object) -> Settings:
    return replace(settings, output=str(output), training=replace(settings.training, **training))


def test_what_the_processes_share_covers_what_can_go_wrong(settings, alone):
    batches = batches_of(settings, alone)
    tokens = [[update.tokens for update in shares] for shares in shares_of(batches, 1, 4, updates=6)]
    assert any(len(set(each)) > 1 for each in tokens)  # processes get different numbers of tokens
    assert len(batches.epoch(0)) % 4 != 0  # and an epoch ends within an update


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one_does(settings, alone, tmp_path, processes):
    ours = changed(settings, tmp_path / "run", accumulate=4 // processes)
    done = torchrun(processes, ours, executable=sys.executable if processes == 4 else python())
    assert done.returncode == 0, done.stderr
    assert_same_training(Run(tmp_path / "run"), alone)
    assert done.stderr.count("trained model") == processes
    assert done.stderr.count("vocabulary") == 1  # only one process prints messages


@pytest.mark.slow
def test_a_run_continues_with_another_number_of_processes(settings, alone, tmp_path):
    assert torchrun(4, changed(settings, tmp_path / "run", accumulate=1, max_steps=3)).returncode == 0
    assert torchrun(2, changed(settings, tmp_path / "run", accumulate=2)).returncode == 0
    assert_same_training(Run(tmp_path / "run"), alone)


def test_when_a_process_dies_the_others_stop_with_a_clear_line(settings, tmp_path):
    ours = changed(settings, tmp_path / "run", accumulate=2, timeout=20.0)
    done = torchrun(2, ours, program=(str(TESTS / "faulty_worker.py"),))
    assert done.returncode != 0
    assert done.stderr.count("process 0 of 2: another process has died or did not answer within 20 s") == 1
    assert "the last checkpoint is complete: continue with --resume" in done.stderr
    run = Run(tmp_path / "run")
    assert run.marked("last") == run.checkpoint(3)
    read_manifest(run.checkpoint(3))


def test_a_lost_process_is_reported_at_once_and_leaves_the_signals_as_they_were(capsys):
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(ProcessLostError, match="process 1 of 2: another process has died") as info,
        stop_requests(),
        Group(rank=1, size=2, timeout=5.0).naming_lost_processes(),
    ):
        raise RuntimeError("[gloo] Connection closed by peer")
    assert capsys.readouterr().err.strip() == str(info.value)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_a_signal_to_one_process_lets_all_of_them_save_and_leave(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("FAULT", "SIGTERM")
    ours = changed(settings, tmp_path / "run", accumulate=2, save_every=100)
    done = torchrun(2, ours, program=(str(TESTS / "faulty_worker.py"),))
    assert done.returncode != 0
    assert done.stderr.count("after update 4; everything is saved, continue with --resume") == 2
    run = Run(tmp_path / "run")
    assert run.marked("last") == run.checkpoint(4)


@pytest.mark.slow
def test_torchrun_restarts_what_has_died_and_nothing_is_lost(settings, alone, tmp_path):
    ours = changed(settings, tmp_path / "run", accumulate=2, timeout=20.0)
    program = (str(TESTS / "faulty_worker.py"),)
    done = torchrun(2, ours, "--max-restarts", "1", program=program)
    assert done.returncode == 0, done.stderr
    assert_same_training(Run(tmp_path / "run"), alone)


def test_half_of_torchruns_environment_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="WORLD_SIZE is 2, but RANK is not set; torchrun sets both"):
        process_group(CPU, 5.0).__enter__()


# The division of batches among processes can be tested without starting any.


def batches_of(settings: Settings, run: Run):
    return TranslationTask(settings).tokenize(load_tokenizer(run.tokenizer), settings).batches


def shares_of(batches, accumulate: int, processes: int, *, updates: int):
    """For each update, the shares of all processes."""
    start = batches.state_dict()
    shares = []
    for rank in range(processes):
        batches.load_state_dict(start)
        shares.append(taken(batches, accumulate, Group(rank, processes), updates))
    return list(zip(*shares, strict=True))


def taken(batches, accumulate: int, group: Group, count: int):
    source = updates(batches, accumulate, group, CPU)
    found = list(islice(source, count))
    source.close()
    return found


@pytest.mark.parametrize(("accumulate", "processes"), [(1, 1), (2, 1), (1, 3), (2, 2), (1, 8), (3, 5)])
def test_each_example_is_seen_once_an_epoch_whatever_the_processes(settings, alone, accumulate, processes):
    batches = batches_of(settings, alone)
    corpus = sorted(line for batch in batches.one_pass() for line in batch.lines.tolist())
    per_epoch = len(batches.epoch(0))
    count = -(-3 * per_epoch // (accumulate * processes))
    seen = [
        batch.lines.tolist()
        for shares in shares_of(batches, accumulate, processes, updates=count)
        for number in range(accumulate)
        for batch in (share.batches[number] for share in shares)
    ]
    for epoch in range(3):
        lines = Counter(line for part in seen[epoch * per_epoch : (epoch + 1) * per_epoch] for line in part)
        assert sorted(lines) == corpus
        assert set(lines.values()) == {1}


def test_resuming_with_other_processes_visits_the_same_remaining_examples(settings, alone):
    def lines(shares, accumulate):
        return [u.batches[n].lines.tolist() for share in shares for n in range(accumulate) for u in share]

    batches = batches_of(settings, alone)
    straight = lines(shares_of(batches, 4, 1, updates=5), 4)
    batches.load_state_dict({"epoch": 0, "next_batch": 0})
    first = shares_of(batches, 1, 4, updates=2)
    batches.load_state_dict(first[-1][0].position)
    rest = shares_of(batches, 2, 2, updates=3)
    assert lines(first, 1) + lines(rest, 2) == straight
