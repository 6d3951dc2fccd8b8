"""Whatever stops training, only updates since the last checkpoint are lost, and no checkpoint is damaged."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fixtures_run import events, tiny_settings
from safetensors.torch import save_file
from tqdm import tqdm

import transformer.files as files
import transformer.training.loop as loop
from transformer.checkpoint import reading, writing
from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.reading import read_manifest, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.cli import main
from transformer.config import Settings
from transformer.model.build import build_model
from transformer.recipe import dry_run, silent, train
from transformer.training import memory, rehearsal
from transformer.training.distributed import ALONE
from transformer.training.finite import DivergedError, require_finite
from transformer.training.interruption import EXIT_CODE, SIGNALS, TrainingStopped, stop_requests
from transformer.training.log import Log
from transformer.training.saving import Saver
from transformer.training.state import TrainingState
from transformer.training.update_rule import UpdateRule


def assert_equal_end(ours: Run, theirs: Run) -> None:
    """The last checkpoints have equal parameters, optimizer moments and data positions."""
    assert_equal(ours.marked("last"), theirs.marked("last"))


def assert_equal(*folders: Path) -> None:
    for name in (MODEL, OPTIMIZER):
        tensors, expected = (read_tensors(folder / name) for folder in folders)
        assert tensors.keys() == expected.keys()
        assert [key for key in tensors if not torch.equal(tensors[key], expected[key])] == []
    states = [{**read_state(folder), "seconds": 0} for folder in folders]
    assert states[0] == states[1]


def assert_all_whole(run: Run) -> None:
    for step in run.steps():
        read_manifest(run.checkpoint(step))


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """Six updates with dropout and a checkpoint after each update; the newest two are kept."""
    return tiny_settings(tmp_path_factory.mktemp("straight") / "run", save_every=1, valid_every=2, keep=2)


@pytest.fixture(scope="module")
def straight(settings) -> Run:
    return Run(train(settings))


# Killed


def in_a_child(work, *, kill_after: float | None = None) -> int:
    """Call `work` in a forked process, which need not import torch again.

    Returns its exit code, or the negative number of the signal that ended it.
    """

    def quietly():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        tqdm.set_lock(threading.RLock())  # a killed process would never release a shared lock
        work()

    child = multiprocessing.get_context("fork").Process(target=quietly)
    child.start()
    child.join(kill_after)  # returns earlier if the process ends
    if kill_after is not None:
        child.kill()
        child.join()
    return child.exitcode


class KilledAt:
    """Kills the process just before its `number`-th file operation."""

    OPERATIONS = (
        (writing, "save_file"),
        *((files, name) for name in ("flush", "new_folder", "take_lock")),
        (shutil, "rmtree"),
        *((Path, name) for name in ("rename", "replace", "write_bytes")),
    )

    def __init__(self, number: int) -> None:
        self.left = number

    def install(self) -> None:
        for owner, name in self.OPERATIONS:
            setattr(owner, name, self.counting(getattr(owner, name)))

    def counting(self, operation):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        return call


def killed_at_operation(number: int, settings: Settings, straight: Run, folder: Path) -> bool:
    """Train, be killed just before file operation `number`, resume. False if there were fewer operations."""
    ours = replace(settings, output=str(folder / "run"))

    def work():
        KilledAt(number).install()
        train(ours)

    ended = in_a_child(work)
    run = Run(Path(ours.output))
    assert_all_whole(run)
    train(ours, resume=True)
    assert_equal_end(run, straight)
    assert_all_whole(run)
    assert not list(run.path.rglob(".unfinished*"))
    assert ended in (0, -signal.SIGKILL)
    shutil.rmtree(folder)
    return ended != 0


def test_killed_within_the_write_of_a_checkpoint_nothing_is_lost(settings, straight, tmp_path):
    for number in range(36, 76, 7):  # while the second and third checkpoint are written
        assert killed_at_operation(number, settings, straight, tmp_path / str(number))


@pytest.mark.slow
def test_killed_150_times_a_run_ends_like_one_without_a_break(tmp_path):
    """One run, resumed after each kill.

    Kills alternate between the first, second, third … file operation, which covers two complete writes of a
    checkpoint, and random moments.
    """
    every_other = {"save_every": 2, "valid_every": 2, "valid_sample": 0, "keep": 2}
    settings = tiny_settings(tmp_path / "straight", max_steps=300, **every_other)
    straight = Run(train(settings))
    ours = replace(settings, output=str(tmp_path / "ours"))
    run, moments = Run(tmp_path / "ours"), random.Random(1)
    began = time.monotonic()
    assert in_a_child(lambda: train(tiny_settings(tmp_path / "short", max_steps=10, **every_other))) == 0
    seconds = time.monotonic() - began

    def killed_at(number: int) -> int:
        return in_a_child(lambda: (KilledAt(number).install(), train(ours, resume=True)))

    def killed_by_the_clock() -> int:
        return in_a_child(lambda: train(ours, resume=True), kill_after=moments.uniform(0, 2 * seconds))

    kills, within_a_write = 0, 0
    while kills < 150:
        ended = killed_by_the_clock() if kills % 2 else killed_at(1 + kills // 2)
        assert ended in (0, -signal.SIGKILL)
        kills += ended != 0
        within_a_write += any(run.checkpoints.glob(".unfinished-step-*"))
        assert_all_whole(run)
        if ended == 0:
            assert_equal_end(run, straight)
            shutil.rmtree(run.path)
    assert within_a_write > 20
    train(ours, resume=True)
    assert_equal_end(run, straight)


# Damaged


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(settings, straight, tmp_path, damage):
    run = Run(Path(shutil.copytree(straight.path, tmp_path / "run")))
    newest = run.marked("last") / OPTIMIZER
    content = bytearray(newest.read_bytes())
    if damage == "missing":
        newest.unlink()
    else:
        content[len(content) // 2] ^= 1
        newest.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    said: list[str] = []
    train(replace(settings, output=str(run.path)), resume=True, say=said.append)
    assert "its hash is not the one in manifest.json; trying the previous checkpoint" in said[0]
    assert events(run.path, "resume")[-1]["step"] == 5
    assert_equal_end(run, straight)


def test_a_damaged_newer_checkpoint_never_counts_among_the_newest(settings, tmp_path):
    rare = replace(settings.training, save_every=4, valid_every=100, keep=9)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), training=rare)))
    assert run.steps() == [4, 6]
    (run.checkpoint(6) / MODEL).unlink()
    with pytest.MonkeyPatch.context() as patch:
        at_update(5, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
        with pytest.raises(TrainingStopped):
            train(replace(settings, output=str(run.path), training=replace(rare, keep=1)), resume=True)
    assert run.marked("last") == run.checkpoint(5)
    assert 6 not in run.steps()
    assert_all_whole(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("step"),
        lambda s: s.update(step="5"),
        lambda s: s.update(best="x"),
        lambda s: s.update(batches=3),
        lambda s: s["batches"].update(next_batch=-1),
        lambda s: s["batches"].update(epoch=10**400),
        lambda s: s.update(seconds=10**400),
        lambda s: s.update(best=float("nan")),
    ],
)
def test_a_state_that_no_training_wrote_is_refused(settings, straight, tmp_path, change):
    run = Run(Path(shutil.copytree(straight.path, tmp_path / "run")))
    folder = run.marked("last")
    state = read_state(folder)
    change(state)
    (folder / "state.json").write_text(json.dumps(state))
    reseal(folder, "state.json")
    before = run.config.read_bytes()
    longer = replace(settings.training, max_steps=9)
    with pytest.raises(CheckpointError, match="not the state of a training"):
        train(replace(settings, output=str(run.path), training=longer), resume=True)
    assert run.config.read_bytes() == before


def test_a_manifest_must_name_the_weights(straight, tmp_path):
    run = Run(Path(shutil.copytree(straight.path, tmp_path / "run")))
    manifest = json.loads((run.marked("last") / "manifest.json").read_text())
    (run.marked("last") / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))
    with pytest.raises(CheckpointError, match="its hash is not the one in manifest"):
        read_manifest(run.marked("last"))


def test_when_no_checkpoint_is_whole_nothing_is_overwritten(settings, straight, tmp_path):
    run = Run(Path(shutil.copytree(straight.path, tmp_path / "run")))
    for step in run.steps():
        (run.checkpoint(step) / MODEL).unlink()
    with pytest.raises(CheckpointError, match=r"none of its \d checkpoints can be used"):
        train(replace(settings, output=str(run.path)), resume=True)
    assert len(run.steps()) == len(straight.steps())


def reseal(folder: Path, name: str) -> None:
    """Update the manifest's hash for a replaced file, as an attacker would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = reading.file_hash(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"stranger.exp_avg": torch.ones(2)}, r"has the unexpected stranger\.exp_avg"),
        (lambda t: t | {next(iter(t)): torch.ones(7, 7)}, r"has shape \(7, 7\), but the parameter has"),
        (lambda t: dict(list(t.items())[1:]), r"lacks a part of the state of"),
        (lambda _: {}, r"holds nothing"),
    ],
    ids=["unknown", "shape", "missing", "empty"],
)
def test_an_optimizer_of_another_model_is_refused(settings, straight, tmp_path, change, message):
    run = Run(Path(shutil.copytree(straight.path, tmp_path / "run")))
    save_file(change(read_tensors(run.marked("last") / OPTIMIZER)), run.marked("last") / OPTIMIZER)
    reseal(run.marked("last"), OPTIMIZER)
    with pytest.raises(CheckpointError, match=message):
        train(replace(settings, output=str(run.path)), resume=True)


def test_a_text_that_has_changed_under_the_same_name_is_noticed(tmp_path):
    for language, word in (("en", "clock"), ("de", "Uhr")):
        (tmp_path / f"t.{language}").write_text(f"one two {word}\n" * 30)
    data = {"train": str(tmp_path / "t"), "valid": None, "vocab_size": 290}
    settings = tiny_settings(tmp_path / "run", data=data, max_steps=2)
    train(settings)
    (tmp_path / "t.de").write_text("one two Uhr\n" * 29 + "two one Uhr\n")
    with pytest.raises(CheckpointError, match="the training text has changed since"):
        train(tiny_settings(tmp_path / "run", data=data, max_steps=4), resume=True)


# Disks


def failing(monkeypatch, steps: set[int], error: int) -> None:
    """Make saving the weights fail at these updates, as on a full or read-only disk."""
    original = writing.save_file

    def save(tensors, path, metadata):
        if int(path.parent.name.rpartition("-")[2]) in steps:
            path.write_bytes(b"half of it")
            raise OSError(error, os.strerror(error), str(path))
        original(tensors, path, metadata)

    monkeypatch.setattr(writing, "save_file", save)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_does_not_stop_the_training(
    settings, straight, tmp_path, monkeypatch, capsys, error
):
    failing(monkeypatch, {2, 3}, error)
    run = Run(train(replace(settings, output=str(tmp_path / "run"))))
    assert [entry["step"] for entry in events(run.path, "save_failed")] == [2, 3]
    assert [entry["step"] for entry in events(run.path, "save")] == [1, 4, 5, 6]
    assert f"update 2: no checkpoint could be written ([Errno {error}]" in capsys.readouterr().err
    assert not list(run.path.rglob(".unfinished*step*"))
    assert_equal_end(run, straight)


def knowing_each_outcome(monkeypatch) -> None:
    """Make every update wait until the previous checkpoint has been written or has failed."""
    original = Saver.wants_one

    def wants_one(saver, step):
        if saver.unfinished is not None:
            wait([saver.unfinished[1]])
        return original(saver, step)

    monkeypatch.setattr(Saver, "wants_one", wants_one)


def test_the_next_occasion_is_taken_after_a_failure(settings, tmp_path, monkeypatch):
    failing(monkeypatch, {2}, errno.ENOSPC)
    knowing_each_outcome(monkeypatch)
    later = replace(settings.training, save_every=2, valid_every=100)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), training=later)))
    assert [entry["step"] for entry in events(run.path, "save")] == [3, 4, 6]


def test_a_best_checkpoint_that_is_marked_stays_the_best_if_what_follows_fails(
    settings, tmp_path, monkeypatch
):
    mark = Run.mark

    def mark_failing(run, name, checkpoint):
        if (name, checkpoint) == ("last", run.checkpoint(2)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run.path / name))
        mark(run, name, checkpoint)

    monkeypatch.setattr(Run, "mark", mark_failing)
    monkeypatch.setattr(TrainingState, "is_better", lambda state, *_: state.step == 2)
    every = replace(settings.training, save_every=1, valid_every=1)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), training=every)))
    assert [entry["step"] for entry in events(run.path, "save_failed")] == [2]
    assert run.marked("best") == run.checkpoint(2)

    def unreadable(run, name):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(run.path / name))

    saver = Saver(run, "", settings.training, ALONE, silent, None)
    assert saver.is_marked_best(2)
    assert not saver.is_marked_best(3)
    monkeypatch.setattr(Run, "marked", unreadable)
    assert not saver.is_marked_best(2)


def test_a_disk_that_stays_full_to_the_end_is_an_error(settings, tmp_path, monkeypatch):
    failing(monkeypatch, set(range(10)), errno.ENOSPC)
    monkeypatch.setattr("transformer.training.saving.LAST_TRIES", (0.0, 0.0))
    with pytest.raises(OSError, match="No space left on device"):
        train(replace(settings, output=str(tmp_path / "run")))
    assert len(events(tmp_path / "run", "save_failed")) == 5 + 3


# Written while training continues


@pytest.fixture
def held_back(monkeypatch):
    """Blocks the writing of each checkpoint; `held_back[3].set()` releases the one of update 3."""
    gates = {step: threading.Event() for step in range(1, 20)}
    original = writing.save_file

    def save(tensors, path, metadata):
        assert gates[int(path.parent.name.rpartition("-")[2])].wait(60)
        original(tensors, path, metadata)

    monkeypatch.setattr(writing, "save_file", save)
    yield gates
    for gate in gates.values():
        gate.set()


def test_training_continues_while_the_state_of_an_update_is_written(
    settings, tmp_path, monkeypatch, held_back
):
    run, marks = Run(tmp_path / "run"), []

    def two_updates_later():
        marks.append(run.marked("last"))
        for gate in held_back.values():
            gate.set()

    at_update(4, two_updates_later, monkeypatch)
    rare, each = (replace(settings.training, save_every=every, keep=9) for every in (2, 1))
    train(replace(settings, output=str(run.path), training=rare))
    assert marks == [None]
    other = Run(train(replace(settings, output=str(tmp_path / "other"), training=each)))
    for step in (2, 4, 6):
        assert_equal(run.checkpoint(step), other.checkpoint(step))


def test_the_next_checkpoint_waits_for_the_one_before(settings, tmp_path, held_back):
    for step in (1, 3, 4, 5, 6):
        held_back[step].set()
    threading.Timer(1.0, held_back[2].set).start()
    run = Run(train(replace(settings, output=str(tmp_path / "run"))))
    assert [entry["step"] for entry in events(run.path, "save")] == [1, 2, 3, 4, 5, 6]


def test_training_ends_only_when_the_checkpoint_before_is_written(settings, tmp_path, monkeypatch, held_back):
    breaking(monkeypatch, {3, 4})
    rare = replace(settings.training, save_every=2, valid_every=100, max_skipped=1)
    threading.Timer(1.0, held_back[2].set).start()
    with pytest.raises(DivergedError):
        train(replace(settings, output=str(tmp_path / "run"), training=rare))
    run = Run(tmp_path / "run")
    assert run.marked("last") == run.checkpoint(2)
    ours = ("batches", "checkpoints", "epochs")
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)] == []


# Signals


def at_update(step: int, act, monkeypatch) -> None:
    original = UpdateRule.set_rate

    def set_rate(rule: UpdateRule, current: int) -> float:
        if current == step:
            act()
        return original(rule, current)

    monkeypatch.setattr(UpdateRule, "set_rate", set_rate)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_finishes_the_update_saves_and_leaves(settings, straight, tmp_path, monkeypatch, number):
    ours = replace(settings, output=str(tmp_path / "run"))
    rare = replace(ours, training=replace(ours.training, save_every=100))
    before = [signal.getsignal(each) for each in SIGNALS]
    with monkeypatch.context() as patch:
        at_update(3, lambda: os.kill(os.getpid(), number), patch)
        with pytest.raises(TrainingStopped, match=f"stopped by {signal.Signals(number).name} after update 3"):
            train(rare)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    run = Run(tmp_path / "run")
    assert run.marked("last") == run.checkpoint(3)
    assert [entry["step"] for entry in events(run.path, "stop")] == [3]
    train(ours, resume=True)
    assert_equal_end(run, straight)


def test_a_signal_in_the_last_update_changes_nothing(settings, straight, tmp_path, monkeypatch):
    at_update(6, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    run = Run(train(replace(settings, output=str(tmp_path / "run"))))
    assert_equal_end(run, straight)


def test_the_command_says_by_its_exit_code_that_resuming_is_meant(tmp_path, monkeypatch, capsys):
    at_update(2, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    arguments = ["--output", str(tmp_path / "run"), "--device", "cpu", "--precision", "float32"]
    arguments += ["--data.train", "toyland:train[:60]", "--data.valid", "toyland:valid[:8]"]
    arguments += ["--data.vocab_size", "330", "--data.max_tokens", "64", "--training.max_steps", "4"]
    arguments += ["--model.d_model", "16", "--model.num_heads", "2", "--model.num_layers", "1"]
    assert main(["train", *arguments]) == EXIT_CODE == 75
    assert (
        "stopped by SIGTERM after update 2; everything is saved, continue with --resume"
        in capsys.readouterr().err
    )
    assert read_state(Run(tmp_path / "run").marked("last"))["step"] == 2


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        *(
            (
                number,
                EXIT_CODE,
                f"stopped by {number.name} before the first update; everything is saved, continue with --res",
            )
            for number in SIGNALS
            if number != signal.SIGINT
        ),
        (signal.SIGINT, 130, "transformer train: interrupted"),
    ],
)
def test_a_signal_before_the_first_update_ends_what_is_being_prepared(
    tmp_path, monkeypatch, capsys, number, code, said
):
    # Not `os.kill`: another thread may receive the signal, and the main thread would handle it too late.
    monkeypatch.setattr("transformer.recipe.set_up", lambda *_: signal.raise_signal(number))
    monkeypatch.setattr("transformer.recipe.fit", None)
    before = signal.getsignal(number)
    assert main(["train", "--config", "toyland", "--output", str(tmp_path / "run")]) == code
    assert said in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_a_second_interrupt_does_not_wait():
    with stop_requests() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# NaN and infinity


def breaking(monkeypatch, steps: set[int]) -> list[list[int]]:
    """Make the loss of these updates NaN; returns a list that training fills with each update's lines."""
    original, lines = loop.accumulate_gradients, []

    def accumulate(objective, model, batches, *rest, **options):
        lines.append(batches[0].lines.tolist())
        loss = original(objective, model, batches, *rest, **options)
        if len(lines) in steps:
            next(model.parameters()).grad.mul_(float("nan"))
            return loss._replace(total=loss.total * float("nan"))
        return loss

    monkeypatch.setattr(loop, "accumulate_gradients", accumulate)
    return lines


def test_an_update_that_is_no_number_is_skipped_and_reported(settings, tmp_path, monkeypatch, capsys):
    breaking(monkeypatch, {2, 3})
    run = Run(train(replace(settings, output=str(tmp_path / "run"))))
    assert [entry["step"] for entry in events(run.path, "skip")] == [2, 3]
    assert "update 2 was skipped: its loss or gradient is not finite" in capsys.readouterr().err
    losses = {entry["step"]: entry["loss"] for entry in events(run.path, "train")}
    assert losses[2] is losses[3] is None
    assert losses[4] > 0
    assert {
        int(value)
        for name, value in read_tensors(run.marked("last") / OPTIMIZER).items()
        if name.endswith(".step")
    } == {4}  # of six


def test_too_many_in_a_row_stop_the_training_with_what_is_needed_to_find_the_cause(
    settings, tmp_path, monkeypatch
):
    lines = breaking(monkeypatch, {3, 4, 5, 6})
    ours = replace(settings, training=replace(settings.training, max_skipped=2, max_steps=9))
    with pytest.raises(
        DivergedError, match=r"update 5: loss or gradient is not finite, as in the 2 upd"
    ) as info:
        train(replace(ours, output=str(tmp_path / "run")))
    assert f"corpus lines {', '.join(map(str, lines[4][:8]))}" in str(info.value)
    assert "lower training.learning_rate (training.rate_scale if that is null)" in str(info.value)
    run = Run(tmp_path / "run")
    for tensor in read_tensors(run.marked("last") / MODEL).values():
        assert torch.isfinite(tensor).all()


def test_the_module_that_breaks_first_is_named(settings, tmp_path):
    class Infinite(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * float("inf")

    def build(config):
        model = build_model(config)
        model.decoder.blocks[0].feed_forward.w_2 = Infinite(config.d_ff, config.d_model)
        return model

    with pytest.raises(
        DivergedError, match=r"first such value is in the output of decoder\.blocks\.0\.feed_forward\.w_2"
    ):
        train(replace(settings, output=str(tmp_path / "run")), build=build)


def test_a_model_with_a_broken_parameter_is_not_saved():
    model = torch.nn.Linear(2, 2)
    require_finite(model, 1)
    with torch.no_grad():
        model.bias[1] = float("inf")
    with pytest.raises(DivergedError, match="update 7: the parameter bias is not finite; nothing was saved"):
        require_finite(model, 7)


def test_out_of_memory_names_the_batch_and_what_to_lower(settings, tmp_path, monkeypatch):
    def too_much(*_, **__):
        return torch.empty(2**50, dtype=torch.uint8)

    monkeypatch.setattr(loop, "accumulate_gradients", too_much)
    with pytest.raises(
        ValueError, match=r"out of memory in an update with src_tokens \d+ x \d+, tgt_tokens \d+"
    ):
        train(replace(settings, output=str(tmp_path / "run")))


@pytest.mark.parametrize(
    "sizes", [{"num_layers": 10**9}, {"d_model": 2**62}, {"d_ff": 10**6, "num_layers": 10**4}]
)
def test_a_model_that_no_memory_holds_is_refused_at_once(settings, tmp_path, sizes):
    ours = replace(settings, output=str(tmp_path / "run"), model=replace(settings.model, **sizes))
    message = r"out of memory: \d+ layers of width \d+ .* have [\d,]+ weights, which .* take [\d,]+ GiB"
    for begin in (train, dry_run):
        with pytest.raises(ValueError, match=message):
            begin(ours)
    assert not (tmp_path / "run").exists()


def test_a_container_has_the_memory_that_it_is_given(settings, tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", [str(limit), str(tmp_path / "none")])
    limit.write_text("max\n")
    memory.require_memory(settings, torch.device("cpu"))
    limit.write_text("1000\n")
    with pytest.raises(ValueError, match=r"out of memory: .*; cpu has 0\.0 GiB"):
        memory.require_memory(settings, torch.device("cpu"))


def test_a_custom_optimizer_is_not_measured_by_what_adam_needs(settings, tmp_path, monkeypatch):
    ours = replace(settings, output=str(tmp_path / "run"))
    monkeypatch.setattr(memory, "memory_bytes", lambda _: 1000)
    with pytest.raises(ValueError, match="Adam's moments"):
        dry_run(ours)
    assert dry_run(ours, optimizer=lambda named: torch.optim.SGD(named, lr=0.1)).parameters > 1000


# Early stopping, the best checkpoint, and saving by time


def with_metrics(monkeypatch, values: list[float]) -> None:
    left = iter(values)
    original = loop.fit

    def fit(*arguments, **options):
        original(*arguments, **{**options, "evaluate": lambda *_: {"loss": 1.0, "bleu": next(left)}})

    monkeypatch.setattr("transformer.recipe.fit", fit)


def test_patience_stops_early_and_the_best_is_by_the_named_metric(settings, tmp_path, monkeypatch):
    with_metrics(monkeypatch, [10.0, 30.0, 20.0, 30.0, 29.0, 40.0])
    chosen = replace(settings.training, best_metric="bleu", patience=3, valid_every=1, max_steps=9)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), training=chosen)))
    assert run.marked("last") == run.checkpoint(5)
    assert run.marked("best") == run.checkpoint(2)
    assert [entry["step"] for entry in events(run.path, "early_stop")] == [5]
    train(replace(settings, output=str(run.path), training=chosen), resume=True)  # does not continue
    assert run.marked("last") == run.checkpoint(5)


def test_the_clock_asks_for_checkpoints_too(settings, tmp_path, monkeypatch):
    start = time.monotonic()
    now = (start + 3600 * hour for hour in range(1, 100))
    clock = SimpleNamespace(monotonic=lambda: next(now), sleep=time.sleep)
    monkeypatch.setattr("transformer.training.saving.time", clock)
    by_clock = replace(settings.training, save_every=100, save_minutes=150.0, valid_every=100, keep=9)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), training=by_clock)))
    assert [entry["step"] for entry in events(run.path, "save")] == [3, 6]  # an hour per reading


# Trying out, fine-tuning, equal runs, TensorBoard


def test_a_dry_run_tells_what_it_will_cost_and_writes_nothing(settings, tmp_path):
    ours = replace(settings, output=str(tmp_path / "run"))
    found = dry_run(ours)
    assert not (tmp_path / "run").exists()
    assert found.parameters > 1000
    assert found.peak_bytes > 2**20
    assert found.seconds_left == pytest.approx(6 * found.seconds_per_update)
    assert found.largest.startswith("src_tokens ")


def test_a_dry_run_times_updates_whose_shapes_it_has_met_before(settings, tmp_path, monkeypatch):
    computed = []

    def compute(objective, model, batches, **options):
        computed.append(batches)
        return loop.accumulate_gradients(objective, model, batches, **options)

    monkeypatch.setattr(rehearsal, "accumulate_gradients", compute)
    dry_run(replace(settings, output=str(tmp_path / "run")))
    count = rehearsal.UPDATES
    first, second = computed[-2 * count : -count], computed[-count:]
    assert [id(batches) for batches in first] == [id(batches) for batches in second]
    assert len({id(batches) for batches in second}) == count


def test_training_starts_from_another_runs_weights(settings, straight, tmp_path):
    text = replace(settings.data, train="toyland:train[:40]")
    training = replace(settings.training, start_from=str(straight.path), max_steps=1, warmup_steps=10**9)
    ours = replace(settings, output=str(tmp_path / "run"), data=text, training=training)
    run = Run(train(ours))
    assert run.tokenizer.read_bytes() == straight.tokenizer.read_bytes()
    before, after = (read_tensors(each / MODEL) for each in (straight.marked("best"), run.marked("last")))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, model=replace(s.model, num_heads=4)), r"has model\.num_heads 2, not 4; use"),
        (lambda s: replace(s, model=replace(s.model, activation="gelu")), r"has model\.activation 'relu'"),
        (lambda s: replace(s, data=replace(s.data, vocab_size=400)), r"has data\.vocab_size 330, not 400"),
    ],
)
def test_weights_that_would_mean_something_else_are_refused(settings, straight, tmp_path, change, message):
    training = replace(settings.training, start_from=str(straight.path))
    with pytest.raises(CheckpointError, match=message):
        train(change(replace(settings, output=str(tmp_path / "run"), training=training)))
    assert not (tmp_path / "run").exists()


def test_damaged_weights_are_not_started_from(settings, straight, tmp_path):
    start = Run(Path(shutil.copytree(straight.path, tmp_path / "start")))
    (start.marked("best") / MODEL).write_bytes(b"x")
    training = replace(settings.training, start_from=str(start.path))
    with pytest.raises(CheckpointError, match="missing or damaged"):
        train(replace(settings, output=str(tmp_path / "run"), training=training))


def test_deterministic_runs_are_equal_and_torch_is_asked_for_it(settings, straight, tmp_path, monkeypatch):
    asked = []
    at_update(1, lambda: asked.append(torch.are_deterministic_algorithms_enabled()), monkeypatch)
    run = Run(train(replace(settings, output=str(tmp_path / "run"), deterministic=True)))
    assert asked == [True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert_equal_end(run, straight)


def test_tensorboard_gets_the_figures_of_the_log(settings, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    ours = replace(settings, output=str(tmp_path / "run"))
    run = Run(train(replace(ours, training=replace(ours.training, tensorboard=True))))
    board = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    scalars = {entry.step: entry.value for entry in board.Scalars("train/loss")}
    expected = {entry["step"]: entry["loss"] for entry in events(run.path, "train")}
    assert scalars == pytest.approx(expected)
    assert {"valid/loss", "train/rate"} <= set(board.Tags()["scalars"])


def test_tensorboard_forgets_the_updates_that_a_kill_has_lost(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Run(tmp_path)
    for start, losses in ((0, {1: 9.0, 2: 8.0, 3: 7.0, 4: 6.0}), (2, {3: 7.5})):
        log = Log(run, tensorboard=True)
        log("data", start)
        for step, loss in losses.items():
            log("train", step, loss=loss)
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    drawn = {entry.step: entry.value for entry in board.Scalars("train/loss")}
    assert drawn == {1: 9.0, 2: 8.0, 3: 7.5}
