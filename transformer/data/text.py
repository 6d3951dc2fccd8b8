"""Reading lines faithfully: UTF-8, plain or compressed, and nothing but `\\n` ends a line."""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

OnError = Literal["error", "skip", "replace"]

BYTES_THAT_BREAK_LINES = str.maketrans("\n\r", "  ")


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

    A line that is not UTF-8 is refused ("error"), becomes an empty line ("skip"), so that there is still one
    text per line, or keeps what can be read and shows U+FFFD for the rest ("replace").
    """
    for number, line in enumerate(iter(stream.readline, b""), start=1):
        line = line.removesuffix(b"\n")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            if on_error == "error":
                raise CorpusError(
                    f"{name}, line {number}: invalid UTF-8 at byte {error.start + 1} "
                    f"(0x{line[error.start]:02x}); convert the file to UTF-8"
                ) from None
            yield line.decode(errors="replace") if on_error == "replace" else ""


def one_line(text: str) -> str:
    """The text with a space for each `\\n` and `\\r`, so that it fills exactly one line of a file."""
    return text.translate(BYTES_THAT_BREAK_LINES)
