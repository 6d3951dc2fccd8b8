"""Messages on standard error. Writing one never fails, even if the stream is closed or the disk is full."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast


class UnfailingStream:
    """A text stream whose writes never fail; text that cannot be written is discarded.

    All other attributes are those of the wrapped stream. The stream may be `None`, because Python sets a
    closed standard error to `None`; all text is then discarded.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            if self.stream is not None:
                self.stream.write(text)
        except (OSError, ValueError):
            self.replace_stderr()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError):
            self.replace_stderr()

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def replace_stderr(self) -> None:
        """Replace `sys.stderr` by this stream.

        The text that could not be written is still in the buffer of `sys.stderr`. When Python exits, it
        would try to write this text again, fail again, and exit with code 120.
        """
        if sys.stderr is self.stream:
            sys.stderr = cast(TextIO, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def standard_error() -> UnfailingStream:
    """Return the current `sys.stderr`, wrapped so that writing to it never fails."""
    stream: Any = sys.stderr
    return stream if isinstance(stream, UnfailingStream) else UnfailingStream(stream)


ABOVE_BARS: list[Callable[[str], None]] = []
"""For each progress bar on the screen, the function that writes above the bar; the newest bar is last."""


def tell(text: str, *, end: str = "\n") -> None:
    """Write a line to standard error, above a progress bar if there is one, and flush the stream."""
    if ABOVE_BARS:
        ABOVE_BARS[-1](text + end)
        return
    stream = standard_error()
    stream.write(text + end)
    stream.flush()


def warn(message: str) -> None:
    tell(f"warning: {message}")
