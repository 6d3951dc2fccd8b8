"""Several processes translate one file: every line once and in order, for any number of processes."""

import gzip
import lzma
import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from fixtures_run import tiny_settings
from fork_server import python
from helpers import be_second_of_two

from transformer.cli import main
from transformer.cli.shards import join, write_shared
from transformer.decoding.translator import Translator
from transformer.hardware import choose_device
from transformer.toyland import generate
from transformer.training.distributed import Group

ROOT = Path(__file__).parents[1]


def translate_file(run: Path, source: Path, output: Path, processes: int, *options: str) -> str:
    """Translate a file with several processes; returns their standard error."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "--"]
    done = subprocess.run(
        [
            *(python(), *(launcher if processes > 1 else ["-m"]), "transformer", "translate"),
            *("--run", str(run), "--input", str(source), "--output", str(output), "--device", "cpu"),
            *options,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHON_EXEC": python()},
        stderr=subprocess.PIPE,
        text=True,
    )
    return "" if done.returncode == 0 else done.stderr or "failed"


def test_half_of_torchruns_environment_is_refused(monkeypatch, tiny_run, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert translate_here(tiny_run, tmp_path / "in", tmp_path / "out") == 2
    assert "WORLD_SIZE is 2, but RANK is not set; torchrun sets both" in capsys.readouterr().err


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("lines", [0, 1, 6, 7])
def test_parts_are_joined_in_order(tmp_path, processes, lines):
    chunks = [[b"%d\n" % line for line in range(lines)][start : start + 2] for start in range(0, lines, 2)]
    parts = [tmp_path / str(rank) for rank in range(processes)]
    for rank, part in enumerate(parts):
        part.write_bytes(b"".join(b"".join(chunk) for chunk in chunks[rank::processes]))
    join(parts, tmp_path / "whole", 2)
    assert (tmp_path / "whole").read_bytes() == b"".join(b"".join(chunk) for chunk in chunks)


def check(run: Path, folder: Path, count: int, processes: list[int], *options: str) -> None:
    source = folder / "source"
    source.write_text(
        "".join(f"{example.source}\n" for example in generate("train", count)), encoding="utf-8"
    )
    outputs = {}
    for number in [1, *processes]:
        output = folder / f"output-{number}"
        assert translate_file(run, source, output, number, *options) == ""
        outputs[number] = output.read_bytes()
    assert len(outputs[1].splitlines()) == count
    assert all(output == outputs[1] for output in outputs.values())
    assert len(list(folder.iterdir())) == 2 + len(processes)  # no temporary parts are left


def test_two_processes_write_what_one_writes(tiny_run, tmp_path):
    check(tiny_run, tmp_path, 50, [2], "--buffer", "8", "--scores")


def test_a_bad_line_leaves_no_output(tiny_run, tmp_path):
    (tmp_path / "source").write_bytes(b"The dog sleeps.\nThe \xffcat sleeps.\n")
    error = translate_file(tiny_run, tmp_path / "source", tmp_path / "output", 1)
    assert error.splitlines()[-1].startswith("transformer translate: error: ")
    assert "line 2: invalid UTF-8 at byte 5" in error
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def translate_here(run: Path, source: Path, output: Path) -> int:
    return main(["translate", "--run", str(run), "--input", str(source), "--output", str(output)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.gz", gzip.compress(b"The dog sleeps.\n" * 99)[:-12]),
        ("other.gz", b"text"),
        ("cut.xz", lzma.compress(b"The dog sleeps.\n" * 99)[:-12]),
        ("other.xz", b"text"),
    ],
    ids=["cut.gz", "other.gz", "cut.xz", "other.xz"],
)
def test_a_damaged_archive_is_named_in_one_line(name, content, tiny_run, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert translate_here(tiny_run, tmp_path / name, tmp_path / "output") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"transformer translate: error: {tmp_path / name}: the archive is damaged")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_only_a_plain_file_is_replaced(tiny_run, tmp_path, capsys):
    """A symbolic link is kept; a device, which would be replaced by a file, and a folder are rejected."""
    (tmp_path / "source").write_text("The dog sleeps.\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for output, reason in {
        tmp_path / "folder": "is not a plain file",
        tmp_path / "pipe": "is not a plain file",
        tmp_path / "none" / "output": f": there is no folder {tmp_path / 'none'}\n",
    }.items():
        assert translate_here(tiny_run, tmp_path / "source", output) == 2
        error = capsys.readouterr().err
        assert str(output) in error
        assert reason in error
    (tmp_path / "link").symlink_to(tmp_path / "output")
    assert translate_here(tiny_run, tmp_path / "source", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "output").read_text().splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"source", "folder", "pipe", "link", "output"}


def test_what_cannot_be_joined_leaves_nothing(tmp_path, monkeypatch):
    def run_out_of_room(parts, whole, lines):  # noqa: ARG001
        whole.write_text("half")
        raise OSError("no room")

    monkeypatch.setattr("transformer.cli.shards.join", run_out_of_room)
    with pytest.raises(OSError, match="no room"):
        write_shared(tmp_path / "output", [[b"a"]], lambda _, __: b"a\n", 1, Group())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_of_a_machine_has_its_own_gpu(device, tmp_path, monkeypatch):
    be_second_of_two(monkeypatch)
    devices = []

    def load(run, *, build, device, precision):  # noqa: ARG001
        devices.append(choose_device(device))
        raise ValueError("no model here")

    monkeypatch.setattr(Translator, "from_pretrained", load)
    monkeypatch.setattr("transformer.cli.shards.sharing_processes", lambda: nullcontext(Group()))
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["translate", "--run", "run", "--device", device, *files]) == 2
    assert devices == [torch.device("cuda:1")]


@pytest.mark.slow
def test_two_and_four_processes_share_200_000_lines(tmp_path_factory):
    from dataclasses import replace

    from transformer.recipe import train

    folder = tmp_path_factory.mktemp("shards")
    settings = tiny_settings(folder / "run", max_steps=2)
    run = train(replace(settings, decoding=replace(settings.decoding, max_extra=1)))
    (folder / "files").mkdir()
    check(run, folder / "files", 200_000, [2, 4], "--beam-size", "1")
