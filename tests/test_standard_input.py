"""How many lines of standard input are translated together, and when a client on a pipe gets its answer."""

import io
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from threading import Timer

import pytest
from fork_server import python
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import Namespace

from transformer.cli.arriving_lines import BLOCK, ArrivingLines, raw_pipe
from transformer.cli.standard_input import StandardInput, in_chunks
from transformer.data.text import CorpusError

ROOT = Path(__file__).parents[1]


class Pieces(io.RawIOBase):
    """A pipe from which each read gets the next piece; an exception is raised, `None` means nothing yet."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def read(self, size=-1):
        assert size == BLOCK
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, OSError):
            raise piece
        return piece


def lines_of(stream):
    return list(iter(stream.readline, b""))


@given(st.lists(st.binary(min_size=1, max_size=9) | st.sampled_from([b"\n", b"a\nb\n", b"ab", None])))
def test_any_pieces_give_the_lines_of_the_whole(pieces):
    text = b"".join(filter(None, pieces))
    stream = ArrivingLines(Pieces(*pieces))
    assert lines_of(stream) == io.BytesIO(text).readlines()
    assert stream.readline() == b""  # the end stays the end


@given(st.lists(st.sampled_from([b"\n", b"ab\nc", b"abcdefg", b"hi\n\n"])), st.integers(1, 5))
def test_parts_of_lines_are_those_of_a_file(pieces, size):
    stream, file = ArrivingLines(Pieces(*pieces)), io.BytesIO(b"".join(pieces))
    while part := file.readline(size):
        assert stream.readline(size) == part
    assert stream.readline(size) == b""


def test_an_error_in_reading_comes_after_the_lines_before_it():
    stream = ArrivingLines(Pieces(b"a\nb\nhalf", OSError(5, "Input/output error")))
    assert [stream.readline(), stream.readline()] == [b"a\n", b"b\n"]
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            stream.readline()


@pytest.fixture
def pipe():
    """The stream that reads a pipe, and a function that writes to the pipe, or closes it if given `None`."""
    reading, writing = os.pipe()
    file = os.fdopen(reading, "rb")
    stream = ArrivingLines(raw_pipe(file))
    open_ends = [writing]

    def write(data):
        if data is None:
            os.close(open_ends.pop())
        else:
            os.write(writing, data)

    yield stream, write
    for end in open_ends:
        os.close(end)
    lines_of(stream)  # lets the thread end
    file.close()


def soon(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_a_line_has_arrived_when_all_of_it_has(pipe):
    stream, write = pipe
    assert not stream.has_line()
    write(b"a\nb")
    assert soon(stream.has_line)
    assert stream.readline() == b"a\n"
    assert not stream.has_line()
    write(b"c\n")
    assert soon(stream.has_line)
    assert stream.readline() == b"bc\n"
    write(b"without an end")
    write(None)
    assert soon(stream.has_line)
    assert [stream.readline(), stream.readline()] == [b"without an end", b""]
    assert stream.has_line()  # nothing more will come, so there is nothing to wait for


def test_what_has_arrived_is_a_chunk(pipe):
    stream, write = pipe
    write(b"1\n2\n3\n4\n5\n")
    assert soon(stream.has_line)
    chunks = in_chunks(iter(stream.readline, b""), 3, has_next=stream.has_line)
    assert next(chunks) == [b"1\n", b"2\n", b"3\n"]  # full
    assert next(chunks) == [b"4\n", b"5\n"]  # nothing more is waiting
    write(b"6\n")
    assert next(chunks) == [b"6\n"]
    write(None)
    assert next(chunks, None) is None


def test_memory_holds_little_more_than_is_processed():
    """A fast writer has to wait."""
    slow = ArrivingLines(source := Pieces(*[b"line\n"] * 200))
    assert slow.readline() == b"line\n"
    time.sleep(0.2)
    assert len(source.pieces) > 150
    assert lines_of(slow) == [b"line\n"] * 199


def test_asking_for_the_next_line_reads_no_further_than_to_it():
    slow = ArrivingLines(source := Pieces(*[b"line\n"] * 200))
    for _ in range(20):
        assert soon(slow.has_line)
        assert slow.readline() == b"line\n"
        time.sleep(0.01)  # the thread can read what fits
    assert len(source.pieces) > 150


def test_a_line_without_end_is_not_waited_for():
    endless = ArrivingLines(source := Pieces(*[b"x" * BLOCK] * 200))
    assert soon(endless.has_line)
    time.sleep(0.1)
    assert len(source.pieces) > 150


@pytest.mark.parametrize("kind", ["file", "bytes"])
def test_a_file_fills_each_chunk(kind, tmp_path, monkeypatch):
    (tmp_path / "text").write_bytes(b"a\n" * 7)
    stream = (tmp_path / "text").open("rb") if kind == "file" else io.BytesIO(b"a\n" * 7)
    with io.TextIOWrapper(stream) as text:
        monkeypatch.setattr(sys, "stdin", text)
        given = StandardInput(Namespace(on_error="error"))
        assert [len(chunk) for chunk in given.together(given.lines, 3)] == [3, 3, 1]


def test_the_lines_before_an_error_are_a_chunk():
    def failing():
        yield from "ab"
        raise CorpusError("line 3")

    chunks = in_chunks(failing(), 5)
    assert next(chunks) == ["a", "b"]
    with pytest.raises(CorpusError, match="line 3"):
        next(chunks)


# In a separate process


@pytest.fixture
def client(tiny_run):
    """A translating process with pipes; ended and checked when the test is over."""
    process = subprocess.Popen(
        [python(), "-m", "transformer", "translate", "--run", str(tiny_run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    watchdog = Timer(120, process.kill)  # an answer that never comes must not hold up the tests
    watchdog.start()
    yield process
    watchdog.cancel()
    process.kill()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    process.wait()


def test_a_client_that_waits_gets_its_answer(client):
    def ask(*lines):
        client.stdin.write(b"".join(lines))
        client.stdin.flush()
        return list(islice(client.stdout, sum(line.count(b"\n") for line in lines)))

    [clock] = ask(b"The dog sleeps.\n")  # would wait forever if more lines were needed
    assert ask(b"\n") == [b"\n"]
    assert ask(b"The dog sleeps.\n\nThe dog s", b"leeps.\n") == [clock, b"\n", clock]
    client.stdin.write(b"The dog sleeps.")  # the last line needs no line ending
    client.stdin.close()
    assert (client.stdout.read(), client.wait(60)) == (clock, 0)


def test_ctrl_c_ends_a_command_that_waits_for_a_line(client):
    client.stdin.write(b"\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"\n"  # now it waits
    client.send_signal(2)
    assert client.wait(60) == 130
    assert client.stderr.read() == b"transformer translate: interrupted\n"


def test_a_client_that_leaves_ends_the_command(client):
    client.stdout.close()
    client.stdin.write(b"The dog sleeps.\n")
    client.stdin.close()
    assert client.wait(60) == 141
    assert client.stderr.read() == b""
