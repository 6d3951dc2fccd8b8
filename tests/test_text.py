"""Lines are read exactly as they are in the file, and errors give their position."""

import gzip
import io
import lzma
import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transformer.data.text import CorpusError, decode_lines, one_line, read_lines, text_list

TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))
LINES = st.lists(TEXT.filter(lambda line: not line.endswith("\r")))
MARK = "\ufeff".encode()
WRITERS = {"": lambda data: data, ".gz": gzip.compress, ".xz": lzma.compress}


@given(lines=LINES, ending=st.sampled_from(["\n", "\r\n"]), is_marked=st.booleans())
def test_lines_come_back_as_they_were_written(lines, ending, is_marked):
    """Also with a byte order mark at the start and with Windows line endings."""
    text = "".join(line + ending for line in lines)
    if not is_marked:
        assume(not text.startswith("\ufeff"))
    stream = io.BytesIO(MARK * is_marked + text.encode())
    assert list(decode_lines(stream, "text", "error")) == lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (MARK, []),
        (MARK + b"\r\n", [""]),
        (MARK + MARK + b"a", ["\ufeffa"]),
        (b"a\n" + MARK + b"b", ["a", "\ufeffb"]),
        (b"a\r\r\nb\rc\r", ["a\r", "b\rc\r"]),
        (b"\r\n\r\n", ["", ""]),
    ],
)
def test_a_mark_counts_at_the_start_and_a_carriage_return_before_a_newline(data, lines):
    assert list(decode_lines(io.BytesIO(data), "text", "error")) == lines


class Repeated:
    """A stream of `length` times `data`, and then of `rest`; notes how much of it was asked for at once."""

    def __init__(self, data: bytes, length: int, rest: bytes) -> None:
        self.data, self.left, self.rest = data, length * len(data), io.BytesIO(rest)
        self.most = 0

    def readline(self, size: int = -1) -> bytes:
        self.most = max(self.most, size)
        assert size > 0, "a line without an end would fill the memory"
        if not self.left:
            return self.rest.readline(size)
        count, start = min(self.left, size), -self.left % len(self.data)
        self.left -= count
        return (self.data * (size + 1))[start : start + count]


@pytest.mark.parametrize("on_error", ["error", "skip", "replace"])
@pytest.mark.parametrize(("data", "kept"), [(b"x", 1000), ("é".encode(), 500), ("語".encode(), 333)])
def test_a_line_without_an_end_is_cut_in_bounded_memory(data, kept, on_error):
    stream, messages = Repeated(data, 10**6, b"x\nnext\n"), []
    found = list(decode_lines(stream, "text", on_error, longest=1000, too_long=messages.append))
    assert found == [data.decode() * kept, "next"]
    assert messages == ["text, line 1 is longer than 1,000 bytes; the rest is not read"]
    assert stream.most <= 2**16


def test_a_line_without_an_end_is_refused_where_it_cannot_be_cut():
    with pytest.raises(CorpusError, match=r"^text, line 2 is longer than 1,000 bytes; the rest is not read"):
        list(decode_lines(io.BytesIO(b"a\n" + b"x" * 1001), "text", "error", longest=1000))


def test_a_device_of_zeros_is_refused_at_once():
    stream = Repeated(b"\0", 10**9, b"")
    with pytest.raises(CorpusError, match=r"^text, line 1: NUL at byte 1"):
        list(decode_lines(stream, "text", "error", longest=1000, too_long=lambda _: None))
    assert stream.left == 10**9 - 1001


@pytest.mark.parametrize("line", [b"x" * 1000, b"x" * 1000 + b"\n"])
def test_a_line_of_exactly_the_limit_is_whole(line):
    assert list(decode_lines(io.BytesIO(line), "text", "error", longest=1000)) == ["x" * 1000]


@given(lines=LINES.filter(any), encoding=st.sampled_from(["utf-16", "utf-16-le", "utf-16-be"]))
def test_utf16_is_never_read_as_text(lines, encoding):
    """Whatever the characters are, at least the line breaks contain a NUL byte in UTF-16."""
    data = "".join(f"{line}\n" for line in lines).encode(encoding)
    with pytest.raises(CorpusError, match=r"^text, line \d+: (NUL|invalid UTF-8) at byte \d+ \(0x"):
        list(decode_lines(io.BytesIO(data), "text", "error"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(encoding, tmp_path):
    path = tmp_path / "train.de"
    path.write_bytes("gut\r\nauch\r\n".encode(encoding))
    with pytest.raises(CorpusError, match=r"train\.de, line 1: .*; this looks like UTF-16; convert the file"):
        list(read_lines(path))


def test_only_a_newline_ends_a_line():
    text = "a\rb\r\nc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i\n\n j\ufeff"
    expected = ["a\rb", "c\x0bd\x0ce\x1cf\x85g\u2028h\u2029i", "", " j\ufeff"]
    assert list(decode_lines(io.BytesIO(text.encode()), "text", "error")) == expected


@pytest.mark.parametrize("archive", WRITERS)
@pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n", "one\ntwo", "ä\r\n\nö\n"])
def test_a_file_reads_the_same_plain_and_compressed(tmp_path, archive, text):
    path = tmp_path / f"text.en{archive}"
    path.write_bytes(WRITERS[archive](text.encode()))
    expected = text.replace("\r\n", "\n").removesuffix("\n").split("\n")[: None if text else 0]
    assert list(read_lines(path)) == expected


def test_a_line_is_there_before_the_next_one_is_written():
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as typed:
        lines = decode_lines(stream, "standard input", "error")
        for text in ("first", "second"):
            typed.write(f"{text}\n".encode())
            assert next(lines) == text


def test_invalid_utf8_is_named_by_line_and_byte(tmp_path):
    path = tmp_path / "train.de"
    path.write_bytes(b"gut\nauch\xff\nnie\n")
    with pytest.raises(CorpusError, match=r"train\.de, line 2: invalid UTF-8 at byte 5 \(0xff\); convert"):
        list(read_lines(path))


@pytest.mark.parametrize("bad", [b"\xff", b"\0"])
@pytest.mark.parametrize(("on_error", "second"), [("skip", ""), ("replace", "b\ufffd")])
def test_an_invalid_line_still_counts_as_one_line(bad, on_error, second):
    assert list(decode_lines(io.BytesIO(b"a\nb" + bad + b"\nc\n"), "text", on_error)) == ["a", second, "c"]


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path):
    with pytest.raises(CorpusError, match=r"no\.en: No such file or directory$"):
        list(read_lines(tmp_path / "no.en"))
    with pytest.raises(CorpusError, match=r"Is a directory$"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize("archive", [".gz", ".xz"])
def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path, archive):
    path = tmp_path / f"text{archive}"
    whole = WRITERS[archive](os.urandom(10_000).hex().encode())
    for data in (b"plain text\n", whole[: len(whole) // 2], b"\n" * 100):
        path.write_bytes(data)
        with pytest.raises(
            CorpusError, match=r"^.*: the archive is damaged, cut short or of another kind .*$"
        ):
            list(read_lines(path))


@given(st.text())
def test_one_line_fills_one_line(text):
    line = one_line(text)
    assert "\n" not in line
    assert "\r" not in line
    assert len(line) == len(text)


def test_one_line_keeps_everything_else():
    assert one_line("a\nb\r\nc\u2028d\te") == "a b  c\u2028d\te"


@pytest.mark.parametrize("lines", [["a", "", "\0\n"], ("a",), iter(["a"]), []])
def test_a_list_of_texts_stays_as_it_is(lines):
    lines = list(lines)
    assert text_list(iter(lines)) == lines


@pytest.mark.parametrize("text", ["one text", ""])
def test_one_text_in_place_of_a_list_is_named(text):
    with pytest.raises(
        TypeError, match=r"^expected a list of strings \(one line each\), not one string; write \["
    ):
        text_list(text)


def test_half_of_a_surrogate_pair_is_named_with_its_line():
    with pytest.raises(ValueError, match=r"^line 12 holds U\+DC80, half of a surrogate pair"):
        text_list(["\U0001f600", "a", "b\udc80\ud800"], first=10)
