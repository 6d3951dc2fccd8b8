"""Files that were damaged, or made to harm: each is refused in one line, and none fills the memory."""

import gzip
import json
import re
import shutil
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from test_commands import Streams
from test_fuzzing import seal

from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.reading import read_manifest
from transformer.checkpoint.run import Run, checkpoint_to_resume, find_run
from transformer.config.files import load_settings
from transformer.convert.common import ConversionError
from transformer.convert.fields import Fields
from transformer.data.text import CorpusError
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.vectors import read_vectors
from transformer.decoding.translator import Translator
from transformer.recipe import train

LETTERS = list(pairwise("abcdefghi"))

# Indexes

HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
    f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**40}, {10**40})}}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -16)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 16)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 8L)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (2, 1)}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000, 4)}",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000, 4)}",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (2, 2)}",
    "{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (2, 4)}",
    "{'descr': '<f4', 'shape': (2, 8)}",
    "__import__('os').system('true')",
    "(" * 5000,
    "[" * 9000 + "]" * 9000,
    "'",
    "",
]


def npy(header: str, content: bytes = bytes(64), version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin1", errors="replace") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + content


def refused_index(content: bytes, folder: Path) -> None:
    (folder / "x.npy").write_bytes(content)
    (folder / "lines").write_text("a\nb\n")
    with pytest.raises(CorpusError, match=r"x\.npy") as refusal:
        read_vectors(f"{folder}/x.npy", f"{folder}/lines")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[-40:])
def test_an_absurd_header_of_an_index_is_refused(header, version, tmp_path):
    refused_index(npy(header, version=version), tmp_path)


def test_an_index_of_infinite_numbers_is_refused_without_a_warning(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 2), 1e300))
    refused_index((tmp_path / "x.npy").read_bytes(), tmp_path)
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "a", "embedding": [1e300, 1e38]}))
    with pytest.raises(CorpusError, match=r"x\.jsonl"):
        read_vectors(f"{tmp_path}/x.jsonl", None)


# Weights


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(tiny_run, tmp_path / "run")))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Streams:
    return Streams(monkeypatch)


def with_weights(run: Run, change) -> str:
    """Change one weight in every checkpoint of a run, and the hashes in the manifests; returns its name."""
    for step in run.steps():
        path = run.checkpoint(step) / MODEL
        weights = load_file(path)
        name = sorted(weights)[3]
        save_file(weights | {name: change(weights[name])}, path)
        seal(run.checkpoint(step))
    return name


def poisoned(value: float):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


def longer(run: Run):
    """The run's settings, for some more updates."""
    settings = load_settings(run.config)
    return replace(settings, output=str(run.path), training=replace(settings.training, max_steps=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.to(torch.complex64), "holds complex64; weights are float32"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "holds float8_e4m3fn; weights are float32"),
        (lambda weight: weight.to(torch.float8_e5m2), "holds float8_e5m2; weights are float32"),
        (poisoned(float("nan")), "has values that are not finite"),
        (poisoned(float("inf")), "has values that are not finite"),
        (poisoned(-float("inf")), "has values that are not finite"),
        (
            lambda weight: torch.full_like(weight, 1e300, dtype=torch.float64),
            "has values that are not finite",
        ),
    ],
)
def test_weights_that_are_none_are_refused(run, change, message):
    message = rf"{MODEL}: {re.escape(with_weights(run, change))} {message}"
    with pytest.raises(CheckpointError, match=message):
        Translator.from_pretrained(run.path, device="cpu")
    with pytest.raises(CheckpointError, match=message):
        average_checkpoints(run, 2)
    with pytest.raises(CheckpointError, match=message):
        train(longer(run), resume=True)


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.uint16, torch.bool])
def test_whole_numbers_are_no_weights_nor_become_some_by_averaging(run, kind):
    with_weights(run, lambda weight: weight.to(kind))
    for path in (run.path, average_checkpoints(run, 2)):
        with pytest.raises(CheckpointError, match=r"holds (u?int|bool)\d*; weights are float32, bfloat16"):
            Translator.from_pretrained(path, device="cpu")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_precisions_are_read(run, kind):
    with_weights(run, lambda weight: weight.to(kind))
    Translator.from_pretrained(run.path, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [(poisoned(float("nan")), "not finite"), (lambda value: -value - 1, "has negative values")],
)
def test_moments_that_adam_cannot_have_are_refused(run, change, message):
    last = run.marked("last")
    moments = load_file(last / OPTIMIZER)
    name = next(name for name in sorted(moments) if name.endswith("exp_avg_sq"))
    save_file(moments | {name: change(moments[name])}, last / OPTIMIZER)
    seal(last)
    with pytest.raises(CheckpointError, match=rf"{OPTIMIZER}: {re.escape(name)} .*{message}"):
        train(longer(run), resume=True)


# The files of a run


@pytest.mark.parametrize("name", ["../checkpoints/step-00000006", "/", "..", ".", "a/b", "./step-00000006"])
def test_a_mark_names_a_checkpoint_of_its_run_and_nothing_else(run, name):
    (run.path / "best").write_text(f"{name}\n")
    with pytest.raises(
        CheckpointError, match=rf"best: names '{re.escape(name)}'; it can only name a checkpoint"
    ):
        find_run(run.path)
    (run.path / "last").write_text(str(run.checkpoint(6).absolute()))
    with pytest.raises(CheckpointError, match=r"last: names '/.*'; it can only name a checkpoint in"):
        checkpoint_to_resume(run, print)


def test_a_long_mark_is_not_read(run):
    (run.path / "best").write_text("x" * 10**6)
    assert find_run(run.path)[1] == run.checkpoint(6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "2"}, r'format version "2", but this version of the program reads 1 and 2'),
        ({"format_version": True}, "format version true, but"),
        ({"format_version": 2.0}, r"format version 2\.0, but"),
        ({"format_version": "9" * 5000}, r'format version "9{39}…9{39}", but'),
        ({"format_version": [2]}, r"format version \[2\], but"),
        ({"files": [["model.safetensors", "x"]]}, "no readable manifest"),
        ({"files": None}, "no readable manifest"),
        ({"files": {"../../config.yaml": "x"}}, "missing or damaged"),
        ({"files": {"..": "x"}}, "missing or damaged"),
        ({"files": {"": "x"}}, "missing or damaged"),
        ({"files": {"\0": "x"}}, "missing or damaged"),
        ({"files": {"\ud800": "x"}}, "missing or damaged"),
        ({"files": {"x" * 100_000: "x"}}, "missing or damaged"),
        ({"files": {MODEL: {"sha256": 3}}}, "missing or damaged"),
        ({"tokenizer": ["x"]}, "not the tokenizer that"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_a_manifest_that_nobody_wrote_is_refused(run, change, message):
    path = run.marked("best") / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message) as refusal:
        Translator.from_pretrained(run.path, device="cpu")
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "content", ["[" * 200_000, "[]", "9" * 5000, '{"format_version": ' + "9" * 5000 + "}", ""]
)
def test_what_is_no_manifest_is_refused(run, content):
    (run.marked("best") / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"no readable manifest\.json; the checkpoint is damaged"):
        read_manifest(run.marked("best"))


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "tokenizer.model", "best"])
def test_a_file_without_an_end_is_not_read(run, name, call):
    """A link to a device, for example."""
    path = run.path / name if (run.path / name).exists() else run.marked("best") / name
    path.unlink()
    path.symlink_to("/dev/zero")
    code, _, err = call("translate", "--run", str(run.path), given=b"The dog sleeps.\n")
    assert (code, err.count("\n")) == ((0, 0) if name == "best" else (2, 1)), err


@pytest.mark.parametrize("seconds", ["1", [3], None, 10**400, -(10**400), {}])
def test_a_time_that_no_training_took_is_refused(run, seconds):
    for step in run.steps():
        path = run.checkpoint(step) / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
        seal(run.checkpoint(step))
    with pytest.raises(CheckpointError, match=r"state\.json: not the state of a training"):
        average_checkpoints(run, 2, minutes=1)


@pytest.mark.parametrize(
    "content",
    ['{"kind": "characters", "characters": ' + "[" * 200_000, '{"kind": "moses", "x": ' + "[" * 200_000, "{"],
    ids=["characters", "moses", "cut"],
)
def test_deep_json_is_no_tokenizer(tmp_path, content):
    (tmp_path / "tokenizer.model").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.model: not a tokenizer of "):
        load_tokenizer(tmp_path / "tokenizer.model")


def test_endless_aliases_in_marians_settings_are_quoted_in_part():
    laughs = [
        "a: &a [x, x, x, x, x, x, x, x, x]",
        *(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in LETTERS),
    ]
    values = yaml.safe_load("\n".join(laughs)) | yaml.safe_load("itself: &i [*i]")
    fields = Fields(Path("model.npz"), values)
    for name in ("i", "itself"):
        with pytest.raises(
            ConversionError, match=rf"^model\.npz: {name} is \[\[.*; it must be a whole"
        ) as refusal:
            fields.number(name)
        assert len(str(refusal.value)) < 300


# Texts


@pytest.mark.parametrize(
    "line",
    [b"x" * 5_000_000, b"the <mask> " * 500_000, "é".encode() * 3_000_000],
    ids=["x", "words", "accents"],
)
def test_a_huge_line_in_an_archive_is_one_line(run, call, tmp_path, line):
    with gzip.open(tmp_path / "in.gz", "wb") as file:
        file.write(b"a\n" + line + b"\nb\n")
    files = ["--input", str(tmp_path / "in.gz"), "--output", str(tmp_path / "out")]
    code, _, err = call("translate", "--run", str(run.path), *files)
    assert (code, (tmp_path / "out").read_bytes().count(b"\n")) == (0, 3)
    assert f"{tmp_path}/in.gz, line 2 is longer than 1,048,576 bytes; the rest is not read\n" in err
