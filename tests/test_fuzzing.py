"""Random and hostile input: every command answers it or refuses it in one line, and never with a traceback.

The normal suite tries a few examples of each; `TRANSFORMER_FUZZ=1000 pytest tests/test_fuzzing.py` tries as
many new ones of each law.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from fixtures_run import tiny_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_commands import Streams

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.reading import file_hash
from transformer.checkpoint.run import Run
from transformer.config import DataConfig, ModelConfig, setting_names
from transformer.data.text import CorpusError
from transformer.data.vectors import read_vectors, write_vectors
from transformer.decoding.translator import Translator
from transformer.recipe import train

MANY = int(os.environ.get("TRANSFORMER_FUZZ", "0"))


def fuzzing(few: int) -> Callable[..., object]:
    """`few` examples, the same in each run of the suite; or as many new ones as the environment asks for."""
    return settings(
        max_examples=MANY or few,
        derandomize=not MANY,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


LINE = (
    st.binary(max_size=20)
    | st.text(max_size=20).map(lambda text: text.encode(errors="replace"))
    | st.sampled_from(
        [
            *(b"", b" ", b"\t", b"the dog\tder Hund", b"the <mask> sees <mask>", b"<mask>" * 100),
            *(b"x" * 70_000, b"a " * 40_000, b"\xf0\x9f\x98\x80" * 300, b"\xcc\x81" * 200, b"\xe2\x80\xa8"),
            *(
                b"\xed\xa0\x80",
                b"\xef\xbf\xbe",
                b"\0",
                b"\r",
                b"a\rb",
                b"\x1b[2J",
                b">>fr<<",
                b"<s></s><unk>",
            ),
        ]
    )
)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.fixed_dictionaries(
    {"source": st.text(max_size=20)},
    optional={"target": st.text(max_size=20), "prefix": st.text(max_size=9), "x": VALUE},
).map(lambda entry: json.dumps(entry).encode())
JSON_LINE = (
    OBJECT
    | VALUE.map(lambda value: json.dumps(value).encode())
    | st.sampled_from(
        [
            *(
                b"",
                b"{}",
                b"[" * 5000,
                b'{"source": "a", "x": ' + b"[" * 990 + b"]" * 990 + b"}",
                b'{"source": NaN}',
            ),
            *(
                b'{"source": "a", "x": 1e999}',
                b'{"source": "a", "x": ' + b"9" * 5000 + b"}",
                b'{"source": "\\ud800"}',
            ),
            *(b'{"source": "a", "source": 3}', b'{"source": "\\u0000"}', b'{"source": "a"} {', b"\xff"),
        ]
    )
)


def joined(lines: list[bytes], *, is_ended: bool) -> bytes:
    return b"\n".join(lines) + (b"\n" if lines and is_ended else b"")


TEXT = st.builds(joined, st.lists(LINE, max_size=5), is_ended=st.booleans())
JSON_TEXT = st.builds(joined, st.lists(JSON_LINE, max_size=4), is_ended=st.booleans())


def count_lines(text: bytes) -> int:
    """As a reader of lines counts them; a byte order mark alone is no line."""
    text = text.removeprefix(b"\xef\xbb\xbf")
    return text.count(b"\n") + (text != b"" and not text.endswith(b"\n"))


def answered(result: tuple[int, bytes, str]) -> bool:
    """Whether the command has answered; if not, asserts that it has refused in one line."""
    code, _, err = result
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    if code == 0:
        assert [line for line in lines if " vectors of " not in line] == []  # what `embed` has written
        return True
    assert code == 2
    assert len(lines) == 1, err
    assert re.match(r"transformer [a-z-]+: error: .", lines[0])
    assert len(lines[0]) < 1100
    return False


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Streams:
    return Streams(monkeypatch)


@pytest.fixture(scope="module")
def runs(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each command that reads lines."""
    folder = tmp_path_factory.mktemp("fuzzing")
    (folder / "labelled").write_text("the dog\tone\nthe cat\ttwo\n" * 8)
    (folder / "plain").write_text("the dog sees the cat\na cat\n" * 8)
    encoder = ModelConfig(
        kind="encoder_only", d_model=16, num_heads=2, d_ff=32, num_layers=1, max_positions=64
    )
    found = {"translate": tiny_run, "score": tiny_run}
    for command, task, text in (
        ("classify", "classification", {"train": f"{folder}/labelled", "label_format": "tab"}),
        ("fill-mask", "masked_language_model", {"train": f"{folder}/plain"}),
        ("embed", "sentence_embedding", {"train": "toyland:train[:60]", "vocab_size": 330}),
    ):
        tiny = tiny_settings(folder / command, max_steps=2)
        data = DataConfig(**{"valid": None, "test": None, "vocab_size": 280, "max_tokens": 32, **text})
        found[command] = train(replace(tiny, task=task, model=encoder, data=data))
    found["nearest"] = found["embed"]
    write_vectors(f"{folder}/index.jsonl", ["a", "b\nc"], np.eye(2, 16, dtype=np.float32))
    found["index"] = folder / "index.jsonl"
    return found


# Lines

ANSWERS_EACH_LINE = [
    ("translate", []),
    ("translate", ["--scores", "--beam-size", "1"]),
    ("translate", ["--sample", "--alignment"]),
    ("translate", ["--no-repeat", "2", "--min-length", "3"]),
    ("classify", []),
]


@pytest.mark.parametrize("on_error", ["skip", "replace"])
@pytest.mark.parametrize(("command", "options"), ANSWERS_EACH_LINE)
@fuzzing(4)
@given(text=TEXT)
def test_any_bytes_give_one_line_for_each(runs, call, command, options, on_error, text):
    result = call(command, "--run", str(runs[command]), *options, "--on-error", on_error, given=text)
    assert answered(result)
    assert result[1].count(b"\n") == count_lines(text)
    result[1].decode()


@fuzzing(4)
@given(text=TEXT)
def test_any_bytes_give_one_vector_for_each(runs, call, tmp_path, text):
    output = tmp_path / "x.npy"
    assert answered(
        call(
            *("embed", "--run", str(runs["embed"]), "--output", str(output), "--on-error", "replace"),
            given=text,
        )
    )
    assert np.load(output).shape == (count_lines(text), 16)


@fuzzing(4)
@given(text=TEXT)
def test_any_bytes_give_the_nearest_of_each(runs, call, text):
    options = ["--index", str(runs["index"]), "--count", "2", "--on-error", "skip"]
    result = call("nearest", "--run", str(runs["nearest"]), *options, given=text)
    assert answered(result)
    assert result[1].count(b"\n") == 2 * count_lines(text)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        *[(command, []) for command in ("translate", "score", "classify", "fill-mask")],
        ("score", ["--tokens", "--on-error", "replace"]),
        ("fill-mask", ["--on-error", "replace", "--count", "3"]),
        ("translate", ["--n-best", "2"]),
    ],
)
@fuzzing(4)
@given(text=TEXT)
def test_any_bytes_are_answered_or_refused_in_one_line(runs, call, command, options, text):
    result = call(command, "--run", str(runs[command]), *options, given=text)
    if answered(result) and command in ("translate", "score", "classify"):
        assert result[1].count(b"\n") == count_lines(text) * (2 if "--n-best" in options else 1)


@pytest.mark.parametrize(
    ("command", "options"), [("translate", []), ("translate", ["--n-best", "2"]), ("score", [])]
)
@fuzzing(8)
@given(text=JSON_TEXT)
def test_any_json_gives_as_many_objects_or_is_refused(runs, call, command, options, text):
    result = call(command, "--run", str(runs[command]), "--json", *options, given=text)
    lines = result[1].split(b"\n")[:-1]
    if answered(result):
        assert len(lines) == count_lines(text)
    for line in lines:
        if len(line) < 900:  # deeper nesting than Python reads is written back unread
            assert json.loads(line)["score"] is None or json.loads(line)["source"] is not None


# Settings

TINY = """
device: cpu
precision: float32
model: {d_model: 16, num_heads: 2, d_ff: 32, num_layers: 1, max_positions: 64}
data: {train: 'toyland:train[:60]', valid: 'toyland:valid[:4]', test: null, vocab_size: 330, max_tokens: 60}
training: {max_steps: 2, tokens_per_batch: 400, valid_every: 2, valid_sample: 2, save_every: 2, log_every: 1}
decoding: {beam_size: 2, max_extra: 4}
"""
NAMES = [name for name in setting_names() if name not in ("output", "device", "training.start_from")]
SLOW = ("training.max_steps", "training.accumulate")
"""Settings that can ask for any amount of work, which a test cannot wait for."""
NUMBERS = ["0", "1", "2", "3", "7", "-1", "0.5", "0.999999", "1e-320", "1e300", "-0.0", "1e-4"]
HUGE = ["1000000000", "9223372036854775807", "9223372036854775808", "9" * 400, "9" * 5000, "1e999", ".inf"]
ODD = [
    *(
        "null",
        "~",
        "true",
        "no",
        "''",
        "' '",
        "[]",
        "[1]",
        "{}",
        "{a: b}",
        ".nan",
        "-.inf",
        "0x10",
        "1_0",
        "1:30",
    ),
    *(
        "2026-11-30",
        "!!python/object:os.system 1",
        "!!binary aGk=",
        "&a 1",
        "*a",
        '"\\0"',
        '"\\ud800"',
        '"\\U99999999"',
    ),
    *(
        "translation",
        "moses",
        "characters",
        "bleu",
        "pre",
        "learned",
        "decoder_only",
        "encoder_only",
        "gelu",
        "de",
    ),
]


@st.composite
def mutated_settings(draw: st.DrawFn) -> str:
    """The tiny settings with some values replaced, and sometimes a character more or less."""
    tree = yaml.safe_load(TINY)
    sections = {name: dict(part) if isinstance(part, dict) else part for name, part in tree.items()}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)):
        section, _, key = name.rpartition(".")
        (sections[section] if section else sections)[key] = f"@{name}"
    text = yaml.safe_dump(sections, sort_keys=False)
    for name in NAMES:
        values = NUMBERS + ODD + (HUGE if name not in SLOW else [])
        text = text.replace(f"'@{name}'", draw(st.sampled_from(values)) if f"'@{name}'" in text else "")
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.sampled_from([*"{}[]:,-#&*!|>'\"%@` \t\n\0\ufeffä", ""]))
            + text[place + 1 :]
        )
    return text


@fuzzing(10)
@given(text=mutated_settings())
def test_mutated_settings_train_or_are_refused(call, tmp_path, text):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    output = tmp_path / "run"
    shutil.rmtree(output, ignore_errors=True)
    code, out, err = call("train", "--config", str(tmp_path / "x.yaml"), "--output", str(output))
    assert out == b""
    assert code in (0, 2), err
    assert "Traceback" not in err
    if code == 0:
        assert Run(output).marked("last"), err
    else:
        assert err.count("transformer train: error: ") == 1
        assert len(err.splitlines()[-1]) < 1100


# Files


def flipped(content: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """The content with some bytes replaced and the end cut off."""
    changed = bytearray(content)
    for where, value in changes:
        changed[int(where * len(changed))] = value
    return bytes(changed[: int(cut * len(changed))])


SHARE = st.floats(0, 1, exclude_max=True)
BYTES = st.integers(0, 255) | st.sampled_from([*b'0123456789"{}[]:,-eE()'])
CHANGES = st.lists(st.tuples(SHARE, BYTES), min_size=1, max_size=4)
CUTS = st.just(1.0) | SHARE


@fuzzing(30)
@given(changes=CHANGES, cut=CUTS)
def test_a_damaged_header_of_weights_is_refused(tiny_run, tmp_path_factory, changes, cut):
    """The hash in the manifest is right, as an attacker would make it."""
    folder = tmp_path_factory.mktemp("run")
    run = Run(Path(shutil.copytree(tiny_run, folder / "run")))
    checkpoint = run.marked("best")
    path = checkpoint / "model.safetensors"
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(flipped(content[:size], changes, cut) + content[size:])
    seal(checkpoint)
    try:
        Translator.from_pretrained(run.path, device="cpu")
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017  (what is loaded must not fail)
    finally:
        shutil.rmtree(folder)


def seal(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"] = {name: file_hash(checkpoint / name) for name in manifest["files"]}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "config.yaml", "best", "last"])
@fuzzing(8)
@given(changes=CHANGES, cut=CUTS)
def test_a_damaged_file_of_a_run_is_read_or_refused(tiny_run, tmp_path_factory, call, name, changes, cut):
    folder = tmp_path_factory.mktemp("run")
    run = Run(Path(shutil.copytree(tiny_run, folder / "run")))
    path = run.path / name if (run.path / name).exists() else run.marked("best") / name
    path.write_bytes(flipped(path.read_bytes(), changes, cut))
    if name == "state.json":
        seal(run.marked("best"))
    try:
        answered(call("translate", "--run", str(run.path), given=b"the dog\n"))
        answered(call("average", "--run", str(run.path), "--last", "2", "--minutes", "0.0001"))
    finally:
        shutil.rmtree(folder)


@fuzzing(60)
@given(changes=CHANGES, cut=CUTS)
def test_a_damaged_index_is_read_or_refused(tmp_path_factory, changes, cut):
    folder = tmp_path_factory.mktemp("index")
    (folder / "lines").write_text("a\nb\n")
    write_vectors(f"{folder}/x.npy", ["a", "b"], np.eye(2, dtype=np.float32))
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(flipped(content, changes, cut))
    try:
        read_vectors(f"{folder}/x.npy", f"{folder}/lines")
    except CorpusError as error:
        assert "\n" not in str(error)  # noqa: PT017
    finally:
        shutil.rmtree(folder)
