"""Two commands write to the same place at once: one gets an error, or both succeed; no file is damaged."""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_run import tiny_settings

from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.reading import read_manifest
from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.config.files import save_settings
from transformer.files import UNFINISHED, whole_folder
from transformer.recipe import dry_run, train
from transformer.training.update_rule import UpdateRule

FORK = multiprocessing.get_context("fork")


def together(*works: Callable[[], int | None]) -> list[int]:
    """Start several commands at the same time; returns their exit codes."""
    barrier = FORK.Barrier(len(works))

    def begin(work: Callable[[], int | None]) -> None:
        barrier.wait()
        raise SystemExit(work())

    processes = [FORK.Process(target=begin, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def is_saved(run: Path) -> bool:
    """Whether the first checkpoint is marked, and the temporary folder of its mark has been deleted."""
    return (run / "last").exists() and not any(run.glob(f"{UNFINISHED}*"))


@pytest.fixture
def settings(tmp_path):
    return tiny_settings(tmp_path / "run", max_steps=4, save_every=2)


@pytest.fixture
def config(settings, tmp_path) -> str:
    save_settings(settings, tmp_path / "run.yaml")
    return str(tmp_path / "run.yaml")


@pytest.mark.parametrize("options", [[], ["--resume"]], ids=["new", "resume"])
@pytest.mark.parametrize("when", [1, 3], ids=["before the first checkpoint", "later"])
def test_a_second_training_into_the_same_folder_is_refused(
    settings, config, monkeypatch, capsys, when, options
):
    original, found = UpdateRule.set_rate, []

    def set_rate(rule, step):
        if step == when:
            while when > 1 and not is_saved(Path(settings.output)):  # a thread writes the checkpoint
                time.sleep(0.01)
            before = {path: path.read_bytes() for path in Path(settings.output).rglob("*") if path.is_file()}
            found.append(main(["train", "--config", config, "--data.vocab_size", "340", *options]))
            assert before == {path: path.read_bytes() for path in before}
        return original(rule, step)

    monkeypatch.setattr(UpdateRule, "set_rate", set_rate)
    run = Run(train(settings))
    assert found == [2]
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    if options or when == 1:
        assert f"error: {run.path} is being written by process " in error
    else:
        assert "holds a run already" in error
    assert main(["evaluate", "--run", str(run.path), "--device", "cpu"]) == 0


def test_a_dry_run_needs_no_lock(settings):
    run = Run(Path(settings.output))
    with run.locked(print):
        assert dry_run(settings).parameters > 0
        assert [path.name for path in run.path.iterdir()] == [".lock"]
    assert not run.path.exists()


def test_a_run_is_read_and_averaged_while_it_is_trained(tiny_run, tmp_path, capsys):
    run = Run(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    (tmp_path / "in").write_text("the clock\n")
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    with run.locked(print):
        assert main(["average", "--run", str(run.path), "--last", "2"]) == 0
        assert main(["translate", "--run", str(run.path), "--device", "cpu", *files]) == 0
        assert main(["evaluate", "--run", str(run.path), "--device", "cpu"]) == 0
    capsys.readouterr()


def test_of_two_trainings_that_begin_together_one_is_refused(config, settings):
    codes = together(*[lambda: main(["train", "--config", config])] * 2)
    assert sorted(codes) == [0, 2]
    run = Run(Path(settings.output))
    assert run.marked("last") == run.checkpoint(4)
    assert main(["evaluate", "--run", str(run.path), "--device", "cpu"]) == 0


def test_three_averages_at_once_all_succeed(tiny_run, tmp_path):
    run = Run(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    for _ in range(3):
        assert together(*[lambda: main(["average", "--run", str(run.path), "--last", "3"])] * 3) == [0] * 3
    (folder,) = run.checkpoints.glob("average-*")
    read_manifest(folder)
    assert not list(run.path.rglob(".unfinished*"))


def test_a_training_may_delete_a_checkpoint_while_it_is_averaged(tiny_run, tmp_path, monkeypatch):
    """Then the average is computed from the checkpoints that are the newest now."""
    from transformer.checkpoint import averaging

    run = Run(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    original = averaging.read_manifest

    def read(folder):
        if run.checkpoint(2).exists():
            shutil.copytree(run.checkpoint(6), run.checkpoint(8))
            shutil.rmtree(run.checkpoint(2))
        return original(folder)

    monkeypatch.setattr(averaging, "read_manifest", read)
    assert average_checkpoints(run, 3).name == "average-00000004-00000008-of-3"


@pytest.mark.parametrize("target", ["marian", "ctranslate2"])
def test_of_two_conversions_into_one_folder_one_wins(tmp_path, target, monkeypatch, capfd):
    pytest.importorskip("transformers" if target == "marian" else "ctranslate2")
    both_have_begun = FORK.Barrier(2)

    @contextmanager
    def begun_together(path: Path) -> Iterator[Path]:
        with whole_folder(path) as folder:
            if path == tmp_path / "new":
                both_have_begun.wait(300)
            yield folder

    monkeypatch.setattr("transformer.files.whole_folder", begun_together)
    settings = tiny_settings(tmp_path / "run", max_steps=1)
    train(replace(settings, model=replace(settings.model, norm_epsilon=1e-5)))
    command = ["convert", "--run", settings.output, "--to", target, "--output", str(tmp_path / "new")]
    codes = together(*[lambda: main(command)] * 2)
    error = capfd.readouterr().err
    assert sorted(codes) == [0, 2], error
    assert error.count(f"error: {tmp_path / 'new'}: another process has just created") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run", "new"}
    assert main([*command[:-1], str(tmp_path / "again")]) == 0
    content = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("new", "again")
    ]
    assert content[0] == content[1]


def test_two_translations_into_one_file_leave_one_of_them(tiny_run, tmp_path):
    """Each has finished translating when the other begins to write."""
    commands = []
    for lines in (2, 30):
        source = tmp_path / f"in-{lines}"
        source.write_text("the clock\n" * lines)
        files = ["--input", str(source), "--output", str(tmp_path / "out"), "--buffer", "2"]
        commands.append(["translate", "--run", str(tiny_run), "--beam-size", "1", "--device", "cpu", *files])
    assert together(*(lambda command=command: main(command) for command in commands)) == [0, 0]
    assert len((tmp_path / "out").read_text().splitlines()) in (2, 30)
    assert {path.name for path in tmp_path.iterdir()} == {"in-2", "in-30", "out"}
