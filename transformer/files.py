"""Files that are whole or absent, whatever interrupts their writing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"
"""What the names of files and folders begin with that are not whole yet."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the name `path` when the block has succeeded and it is on the disk.

    Otherwise nothing is left of it, and what stood at `path` is untouched. A link stays: what it points to
    is replaced.
    """
    path = path.resolve()
    unfinished = path.with_name(UNFINISHED + path.name)
    try:
        yield unfinished
        flush(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return  # Windows opens no folder, and writes its entries by itself
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
