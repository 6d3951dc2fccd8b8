"""The standard streams of a command, which may be closed, full, or unable to represent a character."""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from transformer.messages import UnfailingStream

STANDARD_OUTPUT = "standard output"
"""The `OSError.filename` of an error while writing to standard output."""


class NamedStream:
    """Wraps standard output or its buffer, so that each `OSError` names the stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    @property
    def buffer(self) -> "NamedStream":
        return NamedStream(self.stream.buffer)

    def write(self, data: Any) -> int:
        with naming_standard_output():
            return self.stream.write(data)

    def writelines(self, lines: Any) -> None:
        with naming_standard_output():
            self.stream.writelines(lines)

    def flush(self) -> None:
        with naming_standard_output():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def naming_standard_output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


def prepare_streams() -> None:
    """Make the three standard streams usable, except streams that the calling program has replaced.

    A closed stream is replaced with the null device. Errors while writing to standard error are ignored.
    Errors while writing to standard output name that stream. A character that a stream cannot represent never
    causes an error.
    """
    occupy_closed_descriptors()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  (open until exit)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        codecs.register_error("transformer.escape", escape)
        sys.stdout.reconfigure(errors="transformer.escape")
    if sys.stdout is sys.__stdout__:
        sys.stdout = cast(TextIO, NamedStream(sys.stdout))
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast(TextIO, UnfailingStream(sys.stderr))


def occupy_closed_descriptors() -> None:
    """Open the null device for each closed standard stream.

    Otherwise the next opened file, here or in a child process, would get the descriptor of a closed stream,
    and C libraries' messages on standard error would end up in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, the closed stream's
            os.set_inheritable(null, True)


def escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle characters that a stream cannot encode: an error handler for `codecs.register_error`.

    Python decodes an invalid byte of a file name to a lone surrogate, which is written as the original
    byte. All other characters are written as escapes, such as `\\u03b5`.
    """
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def discard_standard_output() -> None:
    """Point standard output at the null device, so that Python's flush at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
