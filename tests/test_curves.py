"""The plot of a run's curves shows the figures in its log."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.evaluation.curves import read_curves


def write_log(folder: Path, *entries: dict) -> Run:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return Run(folder)


@pytest.fixture
def run(tmp_path) -> Run:
    return write_log(
        tmp_path / "one",
        {"event": "data", "step": 0, "kept": 3},
        {"event": "train", "step": 1, "time": 1.0, "loss": 5.0, "rate": 0.1},
        {"event": "train", "step": 2, "time": 2.0, "loss": 4.0, "rate": 0.2},
        {"event": "resume", "step": 1},
        {"event": "train", "step": 2, "time": 3.0, "loss": 4.5, "rate": 0.2},
        {"event": "train", "step": 3, "time": 3.5, "loss": None, "rate": 0.2},
        {"event": "valid", "step": 2, "time": 4.0, "loss": 3.0, "bleu": 12.5},
    )


def test_what_was_done_again_counts_as_it_was_done_last(run):
    assert read_curves(run) == {
        "train/loss": {1: 5.0, 2: 4.5},
        "train/rate": {1: 0.1, 2: 0.2, 3: 0.2},
        "valid/loss": {2: 3.0},
        "valid/bleu": {2: 12.5},
    }


def test_what_an_earlier_start_left_is_not_drawn(run):
    once = read_curves(run)
    log = run.log.read_text()
    run.log.write_text('{"event": "train", "step": 9, "loss": 1.0, "lost": 1.0}\n' + log)
    assert read_curves(run) == once


def test_what_was_lost_and_is_not_done_again_yet_is_not_drawn(run):
    with run.log.open("a") as file:
        file.write('{"event": "data", "step": 1}\n{"event": "resume", "step": 1}\n')
    assert read_curves(run) == {"train/loss": {1: 5.0}, "train/rate": {1: 0.1}}
    with run.log.open("a") as file:
        file.write('{"event": "data", "step": 0}\n')
    with pytest.raises(CheckpointError, match="no update has been logged"):
        read_curves(run)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_command_draws_several_runs(run, tiny_run, tmp_path, ending):
    picture = tmp_path / f"curves.{ending}"
    assert main(["plot", str(run.path), str(tiny_run), "--output", str(picture)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [picture.name, "one"]
    if ending == "png":
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        ElementTree.parse(picture)
        for said in (str(run.path), str(tiny_run), "BLEU, validation", "learning rate"):
            assert f"<!-- {said} -->" in picture.read_text()


@pytest.mark.parametrize(
    "line",
    [
        f'{{"event": "train", "step": 1, "loss": {10**400}}}',
        "{",
        '{"event": "tra',
        '{"event": "train", "step": 1e999}',
        "[" * 9999,
    ],
)
def test_a_line_that_is_not_an_event_is_skipped(run, line):
    before = read_curves(run)
    with run.log.open("a") as file:
        file.write(line + "\n")
    assert read_curves(run) == before


def test_a_log_without_a_figure_is_refused(tmp_path):
    run = write_log(tmp_path / "run", {"event": "data", "step": 0})
    with pytest.raises(CheckpointError, match="no update has been logged"):
        read_curves(run)


def test_bad_names_are_errors_of_one_line(run, tmp_path, capsys):
    assert main(["plot", str(tmp_path / "nowhere")]) == 2
    assert "nowhere/log.jsonl: No such file or directory; name a folder of" in capsys.readouterr().err
    assert main(["plot", str(run.path), "--output", "curves.gif"]) == 2
    assert "curves.gif: the name of a picture must end in one of .png, .svg, .pdf" in capsys.readouterr().err
