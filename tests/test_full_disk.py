"""On a full disk, every command names the file it could not write, in one line, and leaves no partial file.

A limit on the size of files simulates the full disk: writes fail within a file, and the error names no file.
"""

import multiprocessing
import resource
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from fixtures_run import TINY_MODEL, tiny_settings

from transformer.cli import main
from transformer.config.files import save_settings
from transformer.convert.marian_export import to_marian
from transformer.recipe import train

ROOM = 4000
"""File size limit in bytes: enough for settings and messages, too small for a model, tokenizer or figure."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Inputs of the commands: the runs `run` and `embedder`, and `marian`, which is `run` converted."""
    folder = tmp_path_factory.mktemp("full")
    settings = tiny_settings(folder / "run", max_steps=4)
    train(replace(settings, model=replace(settings.model, norm_epsilon=1e-5)))
    embedder = tiny_settings(folder / "embedder", max_steps=1)
    train(
        replace(
            embedder, task="sentence_embedding", model=replace(TINY_MODEL, kind="encoder_only", norm="post")
        )
    )
    if find_spec("transformers"):
        to_marian(settings.output, folder / "marian")
    (folder / "in").write_text("the clock\n" * 900)
    for name in ("out", "vectors.npy", "vectors.jsonl", "curves.png", "curves.pdf", "curves.svg"):
        (folder / name).write_text("old")
    save_settings(replace(settings, output=str(folder / "new")), folder / "new.yaml")
    return folder


def without_room(command: list[str], source: Path) -> int:
    """Run a command under the limit, with `source` as standard input; returns its exit code."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
        with source.open() as sys.stdin:
            sys.exit(main(command))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def everything_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("train --config new.yaml --output new", "new/tokenizer.model"),
        ("translate --run run --input in --output out --scores", "out"),
        ("embed --run embedder --output vectors.npy", "vectors.npy"),
        ("embed --run embedder --output vectors.jsonl", "vectors.jsonl"),
        ("average --run run --last 2", "run/checkpoints/average-00000002-00000004-of-2/model.safetensors"),
        ("plot run --output curves.png", "curves.png"),
        ("plot run --output curves.pdf", "curves.pdf"),
        ("plot run --output curves.svg", "curves.svg"),
        ("convert --run run --to marian --output new", "new/model.safetensors"),
        ("convert --run run --to ctranslate2 --output new", "new/model.bin"),
        ("convert --from marian marian new", "new/checkpoints/step-00000000/model.safetensors"),
        (
            "translate --engine ctranslate2 --run run --input in --output out",
            "run/checkpoints/step-00000004/ctranslate2-float32/model.bin",
        ),
    ],
    ids=lambda text: text if " " in text else "",
)
def test_one_line_names_the_file_and_nothing_is_left(command, named, folder, monkeypatch, capfd):
    for needed, package in (
        ("plot", "matplotlib"),
        ("marian", "transformers"),
        ("ctranslate2", "ctranslate2"),
    ):
        if needed in command:
            pytest.importorskip(package)
    monkeypatch.chdir(folder)
    before = everything_in(folder)
    capfd.readouterr()
    assert without_room(command.split(), folder / "in") == 2
    output, error = capfd.readouterr()
    *_, said = error.splitlines()
    assert said == f"transformer {command.split()[0]}: error: {said.split(': ')[2]}: File too large"
    assert said.split(": ")[2] in (named, str(folder / named))
    assert "Traceback" not in error
    assert output == ""
    assert everything_in(folder) == before
    assert not list(folder.rglob(".unfinished*"))


def test_the_cache_of_a_corpus_is_named(folder, tmp_path, monkeypatch, capfd):
    import datasets

    for language in ("en", "de"):
        (tmp_path / f"text.{language}").write_text("".join(f"line {number}\n" for number in range(999)))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    command = ["train", "--config", str(folder / "new.yaml"), "--output", str(tmp_path / "new")]
    assert without_room([*command, "--data.train", str(tmp_path / "text")], folder / "in") == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert (
        f"error: the cache of `datasets`, {tmp_path / 'cache'}, cannot be written (File too large); " in line
    )
    assert line.endswith("set HF_HOME or HF_DATASETS_CACHE to a writable folder")
    assert not (tmp_path / "new").exists()
