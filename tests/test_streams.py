"""The commands' standard streams when they are closed, full, without a reader, or in a limited encoding."""

import io
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from fork_server import python

from transformer.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]

TRANSLATE_AND_TRAIN = """
import os, sys
from transformer.cli import main

def settings(folder):
    yield from ("--output", folder, "--device", "cpu", "--precision", "float32", "--training.max_steps", "2")
    yield from ("--data.train", "toyland:train[:60]", "--data.valid", "toyland:valid[:8]")
    yield from ("--data.vocab_size", "330", "--data.max_tokens", "64", "--training.log_every", "1")
    yield from ("--model.d_model", "16", "--model.num_heads", "2", "--model.num_layers", "1")
    yield from ("--model.d_ff", "32", "--decoding.beam_size", "2", "--decoding.max_extra", "4")

translated = main(["translate", "--run", sys.argv[1]])
trained = main(["train", *settings(sys.argv[2])])
with open(sys.argv[2] + "/descriptors", "w") as file:
    for number in range(3):
        print(os.fstat(number).st_rdev, os.get_inheritable(number), file=file)
sys.exit(translated or trained)
"""


def run(*arguments, program=sys.executable, to="", unbuffered="", **options):
    """Run a Python program with its standard streams redirected by a shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {to}', program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full", "2>to a reader that is gone", "0<&- 1>&- 2>&-"])
def test_without_standard_error_commands_work(to, tiny_run, tmp_path):
    """Only two things are lost: the warning about an overlong line, and the progress bar."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run(
        *("-c", TRANSLATE_AND_TRAIN, tiny_run, tmp_path / "run"),
        program=sys.executable if "&-" in to else python(),
        to="" if "reader" in to else to,
        input=b"The man sees the dog.\n" + b"the " * 400 + b"\n",
        stderr=writing,
    )
    os.close(writing)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == (0 if "1>&-" in to else 2)
    assert b"warning" not in done.stdout
    assert (tmp_path / "run" / "last").read_text() == "step-00000002\n"
    null = f"{Path(os.devnull).stat().st_rdev} True"  # /dev/null, not a file opened later; inheritable
    descriptors = (tmp_path / "run" / "descriptors").read_text().splitlines()
    closed = [number for number in range(3) if f"{number}>&-" in to or f"{number}<&-" in to]
    assert all(descriptors[number] == null for number in closed)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_a_full_standard_output_is_one_line(arguments, unbuffered):
    done = run("-m", "transformer", *arguments, to=">/dev/full", unbuffered=unbuffered)
    command = " ".join(["transformer", *(name for name in arguments[:1] if name in COMMANDS)])
    line = f"{command}: error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr.decode()) == (2, line)


def test_where_nothing_can_be_said_the_exit_code_does():
    done = run("-m", "transformer", "--help", to=">/dev/full 2>&1")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


@pytest.fixture
def written(monkeypatch):
    """A function that returns the bytes a command writes to a standard output with a given encoding."""

    def bytes_of(encoding, errors, *arguments):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            with suppress(SystemExit):  # how `--help` ends
                assert main(list(arguments)) == 0
            stream.flush()
        return stream.buffer.getvalue()

    return bytes_of


EVERY_TEXT = [["--help"], ["table3"], *([name, "--help"] for name in COMMANDS)]


@pytest.mark.parametrize("arguments", EVERY_TEXT, ids=" ".join)
def test_an_encoding_replaces_what_it_lacks(arguments, written):
    """ASCII and cp1252 lack different characters; both error handlers are defaults of Python."""
    text = written("utf-8", "strict", *arguments).decode()
    for encoding, errors in (("ascii", "strict"), ("cp1252", "surrogateescape")):
        assert written(encoding, errors, *arguments) == text.encode(encoding, "backslashreplace"), encoding


def test_the_error_handler_that_a_user_chose_stays(written):
    assert b"\\u03b5" not in written("ascii", "replace", "table3")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_a_file_name_that_is_not_text_is_written_unchanged(encoding, written, monkeypatch):
    name = os.fsdecode(b"runs/\xff")
    monkeypatch.setattr("transformer.cli.dispatch", lambda _: print(name) or 0)
    assert written(encoding, "strict") == b"runs/\xff\n"
