"""Standard input, line by line: typed on a terminal, sent through a pipe, or a file."""

import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import RawIOBase
from itertools import chain, repeat
from queue import Queue
from threading import Thread
from typing import Any, TypeVar

from jsonargparse import Namespace

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
BLOCK = 2**16
"""Bytes to read from a pipe at once: as many as a pipe holds on Linux."""
BLOCKS_AHEAD = 16
"""Blocks to read while others are processed; a fast writer must not fill the memory."""


class StandardInput:
    """The lines of standard input, and the rule how many of them are processed together.

    A file is processed in full chunks. From a pipe a chunk ends as soon as no further line has arrived, so
    that a client which sends a line and waits gets its answer. On a terminal each line is a chunk.
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
        """A line that is too long is cut with a warning, but JSON is refused."""

    def together(self, items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
        """Lists of up to `size` items, each of which was made from the next line of `lines`."""
        return in_chunks(items, size, has_next=self.has_next)


def input_file(path: str, options: Namespace, *, is_json: bool = False) -> Iterator[str]:
    """The lines of a file, treated like those of standard input."""
    return read_lines(path, options.on_error, longest=LONGEST_INPUT_LINE, too_long=too_long(is_json))


def too_long(is_json: bool) -> Callable[[str], None]:
    """What to do about a line that is too long: a part of a JSON object is no object."""
    return refuse if is_json else warn


def always() -> bool:
    return True


def never() -> bool:
    return False


def in_chunks(
    items: Iterable[Item], size: int, *, has_next: Callable[[], bool] = always
) -> Iterator[list[Item]]:
    """The items in lists of `size`, or fewer if `has_next` says that the next one would take a while.

    If reading fails, the items before the error are still yielded first.
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
    """Lines typed after a prompt, edited with readline, with a history that lasts until the command ends.

    If standard output is redirected, or Python has no readline, the prompt goes to standard error and the
    terminal's own editing remains.
    """

    def __init__(self) -> None:
        self.has_readline = sys.stdout.isatty() and import_readline()
        if self.has_readline:
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]

    def readline(self, _: int = -1, /) -> bytes:
        line = self.edited() if self.has_readline else self.typed()
        if not line:
            tell("")  # the shell's prompt begins a new line after Ctrl-D
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
    """Whether there is a readline for `input` to use, which it does once the module is imported."""
    try:
        import readline  # noqa: F401
    except ImportError:  # Windows, whose terminal edits lines itself
        return False
    return True


def raw_pipe(stream: Any) -> RawIOBase | None:
    """The unbuffered stream below `stream`, unless it is a regular file or not a file of the system."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (AttributeError, OSError):  # replaced from Python
        return None
    return None if stat.S_ISREG(mode) else stream.raw


class ArrivingLines:
    """The lines of a pipe, read by a thread, so that one can ask whether the next one has arrived.

    The thread reads the raw stream: it may still wait in `read` when Python exits, and would then hold the
    lock of a buffered stream, which Python's own clean-up needs.
    """

    def __init__(self, pipe: RawIOBase) -> None:
        self.pipe = pipe
        self.read_ahead: Queue[bytes | Exception] = Queue(BLOCKS_AHEAD)
        """What the thread has read: blocks, and at the end an empty one or the error that ended it."""
        self.blocks: deque[bytes | Exception] = deque()
        """Those taken from there."""
        self.start = 0
        """The bytes of the first block that `readline` has returned."""
        Thread(target=self.read, name="standard input", daemon=True).start()

    def read(self) -> None:
        try:
            while (block := self.pipe.read(BLOCK)) != b"":
                if block is None:  # another program has made the pipe non-blocking, and it is empty
                    time.sleep(0.01)
                else:
                    self.read_ahead.put(block)
            self.read_ahead.put(b"")
        except Exception as error:  # raised where the line is read
            self.read_ahead.put(error)

    def readline(self, size: int = -1, /) -> bytes:
        """The next line, or `size` bytes of it; waits for it. Empty at the end of the input."""
        parts: list[bytes] = []
        while size and not (parts and parts[-1].endswith(b"\n")):
            if not self.blocks:
                self.blocks.append(self.read_ahead.get())
            block = self.blocks[0]
            if isinstance(block, Exception):
                raise block
            if not block:
                break  # and stays there
            end = block.find(b"\n", self.start) + 1 or len(block)
            if size > 0:
                end = min(end, self.start + size)
                size -= end - self.start
            parts.append(block[self.start : end])
            self.start = end
            if end == len(block):
                self.blocks.popleft()
                self.start = 0
        return b"".join(parts)

    def has_line(self) -> bool:
        """Whether `readline` would return at once."""
        while not self.read_ahead.empty():
            self.blocks.append(self.read_ahead.get())
        starts = chain([self.start], repeat(0))
        return any(
            isinstance(block, Exception) or not block or block.find(b"\n", start) >= 0
            for block, start in zip(self.blocks, starts, strict=False)
        )
