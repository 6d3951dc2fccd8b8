"""A command's standard streams, which may be closed, full, or unable to represent a character."""

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
"""What `OSError.filename` says when it was standard output that could not be written."""


class NamedStream:
    """Standard output, or its buffer, whose errors name it: Python's own name no file."""

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
    """Make the three standard streams usable; those that a program has put in their place stay as they are.

    A closed stream holds nothing, and what is written to it is lost. Standard error loses what it cannot
    write; standard output names itself in its errors. Neither fails for a character that it cannot represent.
    """
    occupy_closed_descriptors()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  (to the end)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        codecs.register_error("transformer.escape", escape)
        sys.stdout.reconfigure(errors="transformer.escape")
    if sys.stdout is sys.__stdout__:
        sys.stdout = cast(TextIO, NamedStream(sys.stdout))
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast(TextIO, UnfailingStream(sys.stderr))


def occupy_closed_descriptors() -> None:
    """Otherwise the next file that is opened, here or in a child process, would get the number of a closed
    stream, and what C libraries write to standard error would end up in it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(null, True)


def escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """The bytes of a file name that is not text as they are; other characters as `\\u03b5`."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def discard_standard_output() -> None:
    """What its buffer still holds would fail again when Python flushes it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
