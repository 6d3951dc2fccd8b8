"""Standard input, line by line: typed on a terminal, sent through a pipe, or read from a file."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from jsonargparse import Namespace

from transformer.cli.arriving_lines import ArrivingLines, raw_pipe
from transformer.data.text import (
    LONGEST_INPUT_LINE,
    CorpusError,
    LineStream,
    decode_lines,
    read_lines,
    refuse,
)
from transformer.messages import tell, warn

Item = TypeVar("Item")
CHUNK = 1000
"""The number of items that are processed together unless a command says otherwise."""
PROMPT = "> "


class StandardInput:
    """The lines of standard input, and the rule for how many lines are processed together.

    A file is processed in full chunks. With a pipe, a chunk ends as soon as no further line is waiting to be
    read, so a client that sends one line and then waits gets an answer. On a terminal, each line is a chunk.
    """

    def __init__(self, options: Namespace, *, is_json: bool = False) -> None:
        stream: LineStream = sys.stdin.buffer
        self.has_next: Callable[[], bool] = always
        self.is_terminal = sys.stdin.isatty()
        if self.is_terminal:
            stream, self.has_next = Terminal(), never
        elif (pipe := raw_pipe(sys.stdin.buffer)) is not None:
            arriving = ArrivingLines(pipe)
            stream, self.has_next = arriving, arriving.has_line
        self.lines: Iterator[str] = decode_lines(
            stream, "standard input", options.on_error, longest=LONGEST_INPUT_LINE, too_long=too_long(is_json)
        )
        """A line that is too long is truncated with a warning, or refused if it is JSON."""

    def together(self, items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
        """Group `items` into lists of at most `size`. `items` must read `self.lines`, one item per line."""
        return in_chunks(items, size, has_next=self.has_next)


def input_file(path: str, options: Namespace, *, is_json: bool = False) -> Iterator[str]:
    """Yield the lines of a file. Long lines and invalid UTF-8 are handled as in standard input."""
    return read_lines(path, options.on_error, longest=LONGEST_INPUT_LINE, too_long=too_long(is_json))


def too_long(is_json: bool) -> Callable[[str], None]:
    """Return the function to call if a line is too long.

    A line of text is truncated with a warning. JSON is refused, because part of an object is not valid JSON.
    """
    return refuse if is_json else warn


def always() -> bool:
    return True


def never() -> bool:
    return False


def in_chunks(
    items: Iterable[Item], size: int, *, has_next: Callable[[], bool] = always
) -> Iterator[list[Item]]:
    """Group items into lists of `size`. A list ends early if `has_next` says that no further item is ready.

    If reading fails, the items before the error are yielded first.
    """
    chunk: list[Item] = []
    failure = None
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size or not has_next():
                yield chunk
                chunk = []
    except CorpusError as error:
        failure = error
    if chunk:
        yield chunk
    if failure is not None:
        raise failure


class Terminal:
    """Reads lines that the user types after a prompt.

    With readline, the user can edit a line and recall the lines typed earlier in the same command. If
    standard output is redirected, or Python has no readline, the prompt goes to standard error and only the
    terminal's own editing keys work.
    """

    def __init__(self) -> None:
        self.has_readline = sys.stdout.isatty() and import_readline()
        if self.has_readline:
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]

    def readline(self, _: int = -1, /) -> bytes:
        line = self.edited() if self.has_readline else self.typed()
        if not line:
            tell("")  # after Ctrl-D, the shell's prompt should start on a new line
        return line

    def edited(self) -> bytes:
        try:
            return input(PROMPT).encode(errors="surrogateescape") + b"\n"
        except EOFError:
            return b""

    def typed(self) -> bytes:
        tell(PROMPT, end="")
        return sys.stdin.buffer.readline()


def import_readline() -> bool:
    """Import readline, which `input` then uses, and return whether Python has it."""
    try:
        import readline  # noqa: F401
    except ImportError:  # Windows, whose terminal edits lines itself
        return False
    return True
