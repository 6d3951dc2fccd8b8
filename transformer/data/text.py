"""Reading text: UTF-8 lines, plain or compressed, from files, streams and callers in Python.

Every text that the package reads comes through this file, so a byte order mark, a Windows line ending, NUL
and invalid UTF-8 mean the same everywhere.
"""

import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

OnError = Literal["error", "skip", "replace"]

BYTES_THAT_BREAK_LINES = str.maketrans("\n\r", "  ")
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@runtime_checkable
class LineStream(Protocol):
    """A binary file, standard input's buffer, an archive: what can be read line by line."""

    def readline(self) -> bytes: ...


class CorpusError(ValueError):
    """Text that cannot be used; the message is one line that says which file, where, and what to do."""


def read_lines(path: str | Path, on_error: OnError = "error") -> Iterator[str]:
    """The lines of a UTF-8 file, `.gz` and `.xz` unpacked on the way; a last line needs no `\\n`."""
    try:
        with open_bytes(Path(path)) as stream:
            yield from decode_lines(stream, str(path), on_error)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}: the archive is damaged, cut short or of another kind ({error})") from None
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None


def open_bytes(path: Path) -> BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".xz":
        return lzma.open(path)
    return path.open("rb")


def decode_lines(stream: LineStream, name: str, on_error: OnError) -> Iterator[str]:
    """One text per line of a stream called `name`, each as soon as it has arrived.

    `\\n` ends a line, and a `\\r` directly before it belongs to the line ending. A byte order mark at the
    start of the stream is not part of the text. A line that is not UTF-8, or holds NUL, is refused
    ("error"), becomes an empty line ("skip"), so that there is still one text per line, or keeps what can
    be read and shows U+FFFD for the rest ("replace").
    """
    for number, line in enumerate(iter(stream.readline, b""), start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if not line:
                return  # nothing but the mark
        if line.endswith(b"\n"):
            line = line[:-1].removesuffix(b"\r")
        try:
            text, bad = line.decode(), line.find(b"\0")
        except UnicodeDecodeError as error:
            text, bad = line.decode(errors="replace"), error.start
        if bad < 0:
            yield text
        elif on_error == "error":
            kind = "invalid UTF-8" if line[bad] else "NUL"
            is_utf16 = b"\0" in line or (number == 1 and line.startswith(UTF16_MARKS))
            raise CorpusError(
                f"{name}, line {number}: {kind} at byte {bad + 1} (0x{line[bad]:02x})"
                f"{'; this looks like UTF-16' if is_utf16 else ''}; convert the file to UTF-8"
            )
        else:
            yield "" if on_error == "skip" else text.replace("\0", "\ufffd")


def text_list(texts: Iterable[str], name: str = "line", first: int = 1) -> list[str]:
    """The texts that a caller in Python gives, as a list; errors call them `name`, counted from `first`.

    `TypeError` for one text in place of several, which Python would take apart into letters; `ValueError` for
    half of a surrogate pair, which no text file can hold.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"expected a list of texts (one {name} each), not one text; write [text]")
    found = list(texts)
    for number, text in enumerate(found, first):
        if not isinstance(text, str):
            raise TypeError(f"{name} {number} is of type {type(text).__name__}, not str")
        if surrogate := lone_surrogate(text):
            raise ValueError(f"{name} {number} holds {surrogate}, half of a surrogate pair: not text")
    return found


def lone_surrogate(text: str) -> str | None:
    """The first half of a surrogate pair in a text as `U+D800`; such a text cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"U+{ord(text[error.start]):04X}"
    return None


def one_line(text: str) -> str:
    """The text with a space for each `\\n` and `\\r`, so that it fills exactly one line of a file."""
    return text.translate(BYTES_THAT_BREAK_LINES)
