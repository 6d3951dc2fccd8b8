"""Reading text: UTF-8 lines, plain or compressed, from files, streams and Python callers.

The package reads all text through this module, so a byte order mark, Windows line endings, NUL and invalid
UTF-8 are handled in the same way everywhere.
"""

import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, NoReturn, Protocol, runtime_checkable

OnError = Literal["error", "skip", "replace"]

LONGEST_LINE = 2**27
"""The longest allowed line of a file, in bytes; the corpus of a language model may be one huge line."""
LONGEST_INPUT_LINE = 2**20
"""The longest allowed input line of a command, in bytes. This limit is lower, because a command holds many
lines in memory at once."""
SKIPPED_AT_ONCE = 2**16
MAX_CHARACTERS_PER_TOKEN = 64
"""Before tokenization, a line is truncated to this many characters for each token that the model can read.
Tokenizing a huge line would be slow, and the model reads only the start of the line anyway."""

BYTES_THAT_BREAK_LINES = str.maketrans("\n\r", "  ")
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@runtime_checkable
class LineStream(Protocol):
    """Anything that can be read line by line: a binary file, standard input's buffer, an archive."""

    def readline(self, size: int = -1, /) -> bytes: ...


class CorpusError(ValueError):
    """Raised for text that cannot be used; the message is one line with the file, the position, and a fix."""


def refuse(message: str) -> NoReturn:
    raise CorpusError(message)


def read_lines(
    path: str | Path,
    on_error: OnError = "error",
    *,
    longest: int = LONGEST_LINE,
    too_long: Callable[[str], None] = refuse,
) -> Generator[str]:
    """Yield the lines of a UTF-8 file, which may be `.gz` or `.xz`; the last line need not end in `\\n`."""
    try:
        with open_bytes(Path(path)) as stream:
            yield from decode_lines(stream, str(path), on_error, longest=longest, too_long=too_long)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}: the archive is damaged, cut short or of another kind ({error})") from None
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror or error}") from None


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False, without an error, for a name that the system does not allow."""
    try:
        return path.is_file()
    except OSError:
        return False


def open_bytes(path: Path) -> BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path)
    if path.suffix == ".xz":
        return lzma.open(path)
    return path.open("rb")


def decode_lines(
    stream: LineStream,
    name: str,
    on_error: OnError,
    *,
    longest: int = LONGEST_LINE,
    too_long: Callable[[str], None] = refuse,
) -> Iterator[str]:
    """Yield the text of each line as soon as it arrives; error messages call the stream `name`.

    `\\n` ends a line, and a `\\r` directly before the `\\n` belongs to the line ending. A byte order mark at
    the start of the stream is removed. `on_error` says how to treat a line that is not UTF-8 or contains NUL:
    "error" raises a `CorpusError`; "skip" yields an empty string in place of the line; "replace" replaces
    each bad byte with U+FFFD. No more than `longest` bytes of a line are held in memory. For a longer line,
    `too_long` is called with a message. By default, `too_long` raises a `CorpusError`; if it returns, the
    line is truncated.
    """
    for number, line in enumerate(iter(partial(stream.readline, longest + 1), b""), start=1):
        is_whole = len(line) <= longest or line.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if not line:
                return  # the stream holds nothing but the byte order mark
        if line.endswith(b"\n"):
            line = line[:-1].removesuffix(b"\r")
        text = decoded(line[:longest], is_whole, name, number, on_error)
        if not is_whole:
            too_long(f"{name}, line {number} is longer than {longest:,} bytes; the rest is not read")
            skip_to_next_line(stream)
        yield text


def decoded(line: bytes, is_whole: bool, name: str, number: int, on_error: OnError) -> str:
    """Decode a line. If the line was truncated inside its last character, that character is left out."""
    try:
        text, bad = codecs.utf_8_decode(line, "strict", is_whole)[0], line.find(b"\0")
    except UnicodeDecodeError as error:
        text, bad = line.decode(errors="replace"), error.start
    if bad < 0:
        return text
    if on_error == "error":
        kind = "invalid UTF-8" if line[bad] else "NUL"
        is_utf16 = b"\0" in line or (number == 1 and line.startswith(UTF16_MARKS))
        raise CorpusError(
            f"{name}, line {number}: {kind} at byte {bad + 1} (0x{line[bad]:02x})"
            f"{'; this looks like UTF-16' if is_utf16 else ''}; convert the file to UTF-8"
        )
    return "" if on_error == "skip" else text.replace("\0", "\ufffd")


def skip_to_next_line(stream: LineStream) -> None:
    while part := stream.readline(SKIPPED_AT_ONCE):
        if part.endswith(b"\n"):
            return


def text_list(texts: Iterable[str], name: str = "line", first: int = 1) -> list[str]:
    """Check the strings that a Python caller has passed, and return them as a list.

    Errors refer to a string by `name` and a number counted from `first`, such as `line 3`. Raises `TypeError`
    for a single string, because Python would iterate over its characters. Raises `ValueError` for a string
    with half of a surrogate pair, because such a string cannot be encoded as UTF-8.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"expected a list of strings (one {name} each), not one string; write [text]")
    found = list(texts)
    for number, text in enumerate(found, first):
        if not isinstance(text, str):
            raise TypeError(f"{name} {number} is of type {type(text).__name__}, not str")
        if surrogate := lone_surrogate(text):
            raise ValueError(f"{name} {number} holds {surrogate}, half of a surrogate pair: not text")
    return found


def lone_surrogate(text: str) -> str | None:
    """The first lone surrogate in `text`, in the form `U+D800`, or None.

    A string with a lone surrogate cannot be encoded as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"U+{ord(text[error.start]):04X}"
    return None


def one_line(text: str) -> str:
    """The text with each `\\n` and `\\r` replaced by a space, so that it is exactly one line of a file."""
    return text.translate(BYTES_THAT_BREAK_LINES)
