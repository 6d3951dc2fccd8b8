"""Reading the lines of a pipe as they arrive."""

import os
import stat
import time
from collections import deque
from io import RawIOBase
from queue import Queue
from threading import Thread
from typing import Any

BLOCK = 2**16
"""Bytes to read from a pipe at once: the capacity of a pipe on Linux."""
BLOCKS_AHEAD = 16
"""How many blocks the thread reads ahead of `readline`; the limit keeps a fast writer from filling memory."""


def raw_pipe(stream: Any) -> RawIOBase | None:
    """Return the unbuffered stream below `stream`; None for a regular file or without a file descriptor."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (AttributeError, OSError):  # the caller has replaced the stream with an object that is not a file
        return None
    return None if stat.S_ISREG(mode) else getattr(stream, "raw", None)


class ArrivingLines:
    """The lines of a pipe, read by a thread, so that `has_line` can tell whether the next line has arrived.

    The thread reads the raw stream, not the buffered stream, because a buffered stream is locked while a
    thread waits for its input, and Python cannot clean up a locked stream at exit.
    """

    def __init__(self, pipe: RawIOBase) -> None:
        self.pipe = pipe
        self.read_ahead: Queue[bytes | Exception] = Queue(BLOCKS_AHEAD)
        """The blocks that the thread has read; the last item is an empty block or a reading error."""
        self.blocks: deque[bytes | Exception] = deque()
        """The blocks taken from `read_ahead` that `readline` has not returned completely."""
        self.start = 0
        """How many bytes of the first block `readline` has already returned."""
        Thread(target=self.read, name="standard input", daemon=True).start()

    def read(self) -> None:
        try:
            while (block := self.pipe.read(BLOCK)) != b"":
                if block is None:  # another program has made the pipe non-blocking, and it is empty
                    time.sleep(0.01)
                else:
                    self.read_ahead.put(block)
            self.read_ahead.put(b"")
        except Exception as error:  # `readline` raises it
            self.read_ahead.put(error)

    def readline(self, size: int = -1, /) -> bytes:
        """Wait for the next line and return it, or its first `size` bytes; `b""` at the end of the input."""
        parts: list[bytes] = []
        while size and not (parts and parts[-1].endswith(b"\n")):
            if not self.blocks:
                self.blocks.append(self.read_ahead.get())
            block = self.blocks[0]
            if isinstance(block, Exception):
                raise block
            if not block:
                break  # the empty block stays in the queue, so every later call ends here too
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
        """Whether `readline` would return at once.

        The result is also true if a megabyte has arrived without a line break, because a client that sends so
        much is not waiting for an answer. As few blocks as possible are taken from the queue, because for
        each block taken, the thread reads another block into memory.
        """
        number, start, held = 0, self.start, 0
        while held < BLOCKS_AHEAD * BLOCK:
            if number == len(self.blocks):
                if self.read_ahead.empty():
                    return False
                self.blocks.append(self.read_ahead.get())
            block = self.blocks[number]
            if isinstance(block, Exception) or not block or block.find(b"\n", start) >= 0:
                return True
            number, start, held = number + 1, 0, held + len(block)
        return True
