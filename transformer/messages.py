"""Messages to the user on standard error, which may be closed, full, or a pipe that nobody reads any more."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast


class UnfailingStream:
    """A text stream whose writes never fail: what cannot be written is lost, and the work continues.

    Everything else is that of the stream itself; `None`, Python's value for a closed one, writes nothing.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            if self.stream is not None:
                self.stream.write(text)
        except (OSError, ValueError):
            self.take_its_place()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError):
            self.take_its_place()

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def take_its_place(self) -> None:
        """What could not be written is still in the buffer of `sys.stderr`. Python tries again when it exits,
        and would turn another failure into exit code 120."""
        if sys.stderr is self.stream:
            sys.stderr = cast(TextIO, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def standard_error() -> UnfailingStream:
    """`sys.stderr` as it is now, without its errors."""
    stream: Any = sys.stderr
    return stream if isinstance(stream, UnfailingStream) else UnfailingStream(stream)


def tell(text: str, *, end: str = "\n") -> None:
    """Write a line to standard error, at once."""
    stream = standard_error()
    stream.write(text + end)
    stream.flush()


def warn(message: str) -> None:
    tell(f"warning: {message}")
