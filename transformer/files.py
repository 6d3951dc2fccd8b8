"""Files and folders that are whole or absent, whatever interrupts their writing and whoever else writes them.

What is new is made in a folder of its own next to its place, `.unfinished-NAME-NUMBER`, and moved there when
it is whole and on the disk. Each writer has another such folder, and holds a lock in it as long as its
process lives. So what a killed process has left can be told from what is still being written; the next
writer of the same name deletes it.
"""

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from transformer.locks import take_lock

UNFINISHED = ".unfinished-"
"""What the names of files and folders begin with that are not whole yet."""
LOCK, NEW = "lock", "new"
"""What an unfinished folder holds: the file that its process has locked, and a folder for what is written."""
LONGEST_NAME = 50
"""Characters of a name that the name of its unfinished folder repeats: file systems allow 255 bytes."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What systems answer when there is no room for what is written."""
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
"""What systems answer when a folder is to take a name that is not free."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the name `path` when the block has succeeded and it is on the disk.

    Otherwise nothing is left of it, and the file at `path` is untouched. A link stays: what it points to is
    replaced. An `OSError` names `path`.
    """
    place = path.resolve()
    with unfinished_folder(place) as own, naming(path, own / place.name):
        unfinished = own / place.name
        yield unfinished
        flush(unfinished)
        unfinished.replace(place)
        flush(place.parent)


@contextmanager
def whole_folder(path: Path, *, replace: bool = False, kind: str = "") -> Iterator[Path]:
    """An empty folder to fill; it takes the name `path` when the block has succeeded and it is on the disk.

    `FileExistsError` if something has that name by then, unless it is to be replaced. `kind` is what names
    begin with whose leftovers are deleted, if not only that of `path`. An `OSError` names `path` or a file in
    it.
    """
    with unfinished_folder(path, kind=kind) as own, naming(path, own / path.name):
        folder = own / path.name
        folder.mkdir()
        yield folder
        for entry in folder.rglob("*"):
            flush(entry)
        flush(folder)
        if replace:
            put_in_place(folder, path, own)
        else:
            rename_to_free_name(folder, path)
        flush(path.parent)


def write(path: Path, content: bytes | str) -> None:
    """Write a file of a folder that is not whole yet; an `OSError` names it."""
    with naming(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace a file so that a reader sees the old content or the new."""
    with whole_file(path) as unfinished:
        write(unfinished, content)


@contextmanager
def naming(path: Path, unfinished: Path | None = None) -> Iterator[None]:
    """The system's errors inside name `path`, or the file in it, where they name none, as when the disk is
    full, or name what `unfinished` holds until it becomes `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):
            raise
        if not isinstance(error.filename, str):
            name = path
        elif unfinished is not None and Path(error.filename).is_relative_to(unfinished):
            name = path / Path(error.filename).relative_to(unfinished)
        else:
            raise
        raise OSError(error.errno, error.strerror, str(name)) from error


def flush(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except PermissionError:
        if is_folder:
            return  # Windows opens no folder, and writes its entries by itself
        raise
    try:
        with naming(path):
            os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno == errno.EINVAL):  # some file systems flush no folders
            raise
    finally:
        os.close(descriptor)


# Unfinished folders


@contextmanager
def unfinished_folder(path: Path, *, kind: str = "") -> Iterator[Path]:
    """An empty folder on the disk of `path` that no other process writes to; it is deleted at the end.

    What killed processes have left of the same name, or of names that begin with `kind`, is deleted first.
    """
    delete_leftovers(path, kind)
    try:
        folder, lock = make_locked(path)
    except Timeout:
        raise OSError(errno.EAGAIN, "its file system does not lock a new file", str(path)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with naming(path, folder / NEW):
            (folder / NEW).mkdir()
        yield folder / NEW
    finally:
        delete(folder, lock)


def make_locked(path: Path, tries: int = 20) -> tuple[Path, FileLock | None]:
    folder = new_folder(path)
    try:
        return folder, take_lock(folder / LOCK)
    except (Timeout, FileNotFoundError, FileExistsError):  # another process took it for a leftover
        if tries == 0:
            raise
        return make_locked(path, tries - 1)  # that process deletes it: by now the name may be another's


def new_folder(path: Path) -> Path:
    """A new folder next to `path` with the first number that nobody has: two processes never get the same."""
    for number in count():
        folder = path.with_name(f"{UNFINISHED}{path.name[:LONGEST_NAME]}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise AssertionError("there is always another number")


def delete_leftovers(path: Path, kind: str = "") -> None:
    """Delete the unfinished folders next to `path` whose process is dead."""
    names = re.escape(kind) + ".*" if kind else re.escape(path.name[:LONGEST_NAME])
    is_leftover = re.compile(rf"{re.escape(UNFINISHED)}{names}-\d+", re.DOTALL)
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208  (names are enough)
            if is_leftover.fullmatch(name):
                with suppress(OSError):  # its process lives, or it is another user's
                    delete_leftover(path.parent / name)


def delete_leftover(folder: Path) -> None:
    if not (folder / LOCK).exists():
        folder.rmdir()  # only if it is empty: its process was killed before it took the lock, or at the end
    elif (lock := take_lock(folder / LOCK)) is not None:
        delete(folder, lock)


def delete(folder: Path, lock: FileLock | None) -> None:
    """Delete an unfinished folder whose lock this process holds; what cannot be deleted is a leftover.

    The lock's file goes last, so that another process can finish this, and before it is released, so that
    nobody waits for the lock of a folder that is gone. After that the name may belong to another process,
    whose folder is not empty. Only Windows deletes no file that is open.
    """
    try:
        with suppress(OSError):
            shutil.rmtree(folder / NEW)
        is_empty = not (folder / NEW).exists()
        with suppress(OSError):
            if is_empty:
                (folder / LOCK).unlink()
    finally:
        if lock is not None:
            lock.release()
    with suppress(OSError):
        if is_empty:
            if sys.platform == "win32":
                (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def put_in_place(folder: Path, path: Path, own: Path) -> None:
    """Give `folder` the name `path`; whatever has it is moved into the unfinished folder `own`.

    Where several processes do so at once, each succeeds, and the last one's folder stays.
    """
    while True:
        try:
            folder.rename(path)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        else:
            return
        with suppress(FileNotFoundError):  # another process has just moved it away
            path.rename(Path(mkdtemp(dir=own)) / path.name)


def rename_to_free_name(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno in TAKEN and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from error
        raise
