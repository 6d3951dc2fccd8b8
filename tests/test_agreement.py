"""Processes with different settings, text or code refuse to work together; an error in one stops them all."""

import multiprocessing
import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import tiny_settings
from test_forked_group import meeting_place, settings_of, shared, together

from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.data import corpus
from transformer.locks import FolderInUseError
from transformer.model.build import build_model
from transformer.recipe import train
from transformer.training import distributed
from transformer.training.distributed import Group, process_group

CPU = torch.device("cpu")


def test_one_process_agrees_with_itself():
    Group().require_equal({"anything": object()})
    assert Group().from_first(lambda: 3) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"a": 1, "b": 2}, {"a": 1, "b": 3}], "process 1 was given b 3, process 0 b 2; start all processes"),
        ([{"a": 1}, {"a": True}], "process 1 was given a True, process 0 a 1"),
        ([{"a": 1}, {}], "process 1 was given a None, process 0 a 1"),
        ([{}, {"a": float("nan")}], "process 1 was given a nan, process 0 a None"),
        ([{"a": float("nan"), "b": None}, {"b": None, "a": float("nan")}], None),
    ],
)
def test_what_differs_is_named_in_every_process(given, message):
    def work(rank: int) -> None:
        with process_group(CPU, timeout=30.0) as group:
            if message is None:
                group.require_equal(given[rank])
            else:
                with pytest.raises(ValueError, match=message):
                    group.require_equal(given[rank])

    together(work)


def test_a_process_that_waits_for_others_to_connect_can_be_interrupted(monkeypatch):
    """The wait is in C++ code, where Python cannot handle signals, so it must run outside the main thread."""
    waiting = []

    def refuse(*_, **__):
        waiting.append(threading.current_thread())
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)  # the main thread is interrupted in the meantime
        raise TimeoutError("nobody has come")

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", refuse)
    with pytest.raises(KeyboardInterrupt), process_group(torch.device("cpu"), timeout=60):
        pass
    assert waiting[0] is not threading.main_thread()
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(TimeoutError, match="nobody has come"), process_group(torch.device("cpu"), timeout=60):
        pass


def test_what_the_first_process_finds_or_fails_at_all_do():
    def work(rank: int) -> None:
        with process_group(CPU, timeout=30.0) as group:
            assert group.from_first(lambda: {"rank": rank}) == {"rank": 0}
            for error in (FolderInUseError("in use"), OSError(28, "No space left on device", "name")):
                with pytest.raises(type(error), match=re.escape(str(error))):
                    group.from_first(lambda error=error: (_ for _ in ()).throw(error))

    together(work)


CHANGES = {
    "seed 2, process 0 seed 1": lambda s: replace(s, seed=2),
    "training.accumulate 5": lambda s: replace(s, training=replace(s.training, accumulate=5)),
    "data.max_tokens 63": lambda s: replace(s, data=replace(s.data, max_tokens=63)),
    "model.dropout 0.5": lambda s: replace(s, model=replace(s.model, dropout=0.5)),
    "output '.*other'": lambda s: replace(s, output=f"{s.output}-other"),
    "precision 'bfloat16'": lambda s: replace(s, precision="bfloat16"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_refused_before_anything_is_written(change, tmp_path):
    settings = tiny_settings(tmp_path / "run")

    def work(rank: int) -> None:
        with pytest.raises(ValueError, match=f"process 1 was given {change}"):
            train(CHANGES[change](settings) if rank else settings)

    together(work)
    assert list(tmp_path.iterdir()) == []


def test_another_resume_or_model_is_refused(tmp_path):
    settings = tiny_settings(tmp_path / "run")

    def resume(rank: int) -> None:
        with pytest.raises(ValueError, match="process 1 was given --resume True, process 0 --resume False"):
            train(settings, resume=bool(rank))

    def build(rank: int) -> None:
        def other(config):
            return build_model(config)

        with pytest.raises(ValueError, match="process 1 was given build "):
            train(settings, build=other if rank else build_model)

    together(resume)
    together(build)


@pytest.mark.parametrize("side", ["train", "valid"])
def test_another_text_under_the_same_name_is_refused(side, tmp_path, monkeypatch):
    """For example because the machines have different files on their own disks."""
    settings = tiny_settings(tmp_path / "run")
    original = corpus.load_parallel

    def shorter(name, *languages):
        table = original(name, *languages)
        return table.select(range(len(table) - 1)) if side in name else table

    def work(rank: int) -> None:
        if rank == 1:
            monkeypatch.setattr("transformer.tasks.translation.load_parallel", shorter)
        name = {"train": "training", "valid": "validation"}[side]
        with pytest.raises(
            ValueError, match=f"process 1 was given the {name} text '[0-9a-f]+', process 0 the"
        ):
            train(settings)

    together(work)
    assert not Run(tmp_path / "run").steps()


def test_all_processes_say_who_holds_the_folder(tmp_path):
    settings = shared(settings_of("translation", tmp_path))

    def work(_: int) -> None:
        with pytest.raises(FolderInUseError, match=f"is being written by process {os.getppid()} on "):
            train(settings)

    with Run(Path(settings.output)).locked(print):
        together(work)


def test_all_processes_refuse_a_folder_that_holds_a_run(tmp_path):
    settings = shared(settings_of("translation", tmp_path))
    Run(Path(settings.output)).checkpoint(1).mkdir(parents=True)

    def work(_: int) -> None:
        with pytest.raises(ValueError, match="holds a run already"):
            train(settings)

    together(work)


# Translating


def translate_together(capfd, *commands: list[str]) -> tuple[list[int], list[str]]:
    """Run one command in each process of a group; returns their exit codes and the errors they print."""

    def member(rank: int) -> None:
        os.environ.update(place, RANK=str(rank), WORLD_SIZE=str(len(commands)))
        raise SystemExit(main(["translate", "--device", "cpu", "--beam-size", "1", *commands[rank]]))

    context = multiprocessing.get_context("fork")
    members = [context.Process(target=member, args=(rank,)) for rank in range(len(commands))]
    with meeting_place() as place:
        for process in members:
            process.start()
        for process in members:
            process.join()
    return [process.exitcode for process in members], capfd.readouterr().err.splitlines()


@pytest.fixture
def files(tmp_path) -> list[str]:
    (tmp_path / "in").write_text("The dog sleeps.\n" * 9)
    return ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--buffer", "2"], "--buffer 2, process 0 --buffer 1000"),
        (["--n-best", "1", "--scores"], "--scores True"),
        (["--min-length", "3"], "--min-length 3"),
        (["--output", "other"], "--output 'other'"),
    ],
)
def test_other_options_for_the_same_translation_are_refused(option, named, files, tiny_run, tmp_path, capfd):
    command = ["--run", str(tiny_run), *files]
    codes, errors = translate_together(capfd, command, [*command, *option])
    assert codes == [2, 2]
    assert len(errors) == 2
    for error in errors:
        assert error.startswith(f"transformer translate: error: process 1 was given {named}")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_another_input_or_model_under_the_same_name_is_refused(files, tiny_run, tmp_path, capfd, monkeypatch):
    from transformer.cli import shards

    original = shards.content_hash
    for different in ("in", "config.yaml", "manifest.json"):
        monkeypatch.setattr(
            shards,
            "content_hash",
            lambda path, different=different: (
                f"of {os.environ['RANK']}" if path.name == different else original(path)
            ),
        )
        command = ["--run", str(tiny_run), *files]
        codes, errors = translate_together(capfd, command, command)
        assert codes == [2, 2]
        assert len(errors) == 2
        for error in errors:
            assert "error: process 1 was given " in error
            assert (str(tmp_path / "in") if different == "in" else f"the model of {tiny_run}") in error
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_one_process_cannot_write_ends_all(files, tiny_run, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    command = ["--run", str(tiny_run), *files]
    codes, errors = translate_together(capfd, command, command)
    assert codes == [2, 2]
    assert len(errors) == 2
    assert all("is not a plain file" in error for error in errors)


def test_equal_processes_share_the_lines(files, tiny_run, tmp_path, capfd):
    command = ["--run", str(tiny_run), *files, "--buffer", "2"]
    assert translate_together(capfd, command, command) == ([0, 0], [])
    assert len((tmp_path / "out").read_text().splitlines()) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
