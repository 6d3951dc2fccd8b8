"""Atomic writes of files and folders: each is complete or absent, even after a crash or with several writers.

`read_bounded` rejects files above a given size, because a path may lead to an endless device or a damaged
file.

New content is written to a temporary folder `.unfinished-NAME-NUMBER` next to its destination. When the
content is complete and flushed to disk, it is renamed to NAME. Each writer has its own temporary folder and
holds a lock in this folder until it finishes or its process dies. The next writer of the same NAME looks for
temporary folders without a lock, which come from killed processes, and deletes them.
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
"""Prefix of the names of temporary folders."""
LOCK, NEW = "lock", "new"
"""The two entries of a temporary folder: a file that the writer keeps locked, and a folder with the new
content."""
LONGEST_NAME = 50
"""In the name of a temporary folder, NAME is truncated to this many characters, because file systems limit
the length of names."""
LONGEST_NAME_BYTES = 255
"""The longest file name that common file systems allow, in bytes."""
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
"""The errors raised when a folder is renamed to a name that is already taken."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to, and rename the new file to `path` if the block succeeds.

    If the block fails, the new file is deleted, and the file at `path` is unchanged. If `path` is a symbolic
    link, the file that it points to is replaced. The message of an `OSError` names `path`, not the temporary
    file.
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
    """Yield an empty folder to fill, and rename it to `path` if the block succeeds.

    Raises `FileExistsError` if `path` exists at the end of the block, unless `replace` is True. Before the
    block, temporary folders that killed processes left behind are deleted: those for `path` or, if `kind` is
    given, those for every name that begins with `kind`. The message of an `OSError` names `path` or a file in
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


def is_plain_name(name: str) -> bool:
    """Whether `name` is a valid file name, and not a path that leads to another folder."""
    is_name = Path(name).name == name and name not in ("", "..") and "\0" not in name
    return is_name and len(name.encode(errors="replace")) <= LONGEST_NAME_BYTES


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a file. Raises `ValueError` if the file has more than `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path} has more than {most:,} bytes")
    return content


def write(path: Path, content: bytes | str) -> None:
    """Write a file, but not atomically. The message of an `OSError` names the file."""
    with naming(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace a file atomically: a reader sees either the old content or the new."""
    with whole_file(path) as unfinished:
        write(unfinished, content)


@contextmanager
def naming(path: Path, unfinished: Path | None = None) -> Iterator[None]:
    """Inside the block, the message of every `OSError` names `path` or a file in it.

    The system's own error does not always name a file, for example when the disk is full. `unfinished` is the
    path of the temporary file or folder; in messages, `path` replaces it.
    """
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
    """Flush the content of a file, or the list of entries of a folder, to disk."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except PermissionError:
        if is_folder:
            return  # Windows cannot open folders, and flushes their entries without our help
        raise
    try:
        with naming(path):
            os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno == errno.EINVAL):  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


# Unfinished folders


@contextmanager
def unfinished_folder(path: Path, *, kind: str = "") -> Iterator[Path]:
    """Yield an empty folder that only this process uses, on the same disk as `path`; delete it at the end.

    Temporary folders that killed processes left behind are deleted first: those for the same name or, if
    `kind` is given, those for every name that begins with `kind`.
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
        delete_temporary(folder, lock)


def make_locked(path: Path, tries: int = 20) -> tuple[Path, FileLock | None]:
    folder = new_folder(path)
    try:
        return folder, take_lock(folder / LOCK)
    except (Timeout, FileNotFoundError, FileExistsError):
        # Another process has mistaken the new folder for a leftover and is deleting it. Use another folder,
        # and do not delete this one, because by now its name may belong to a new writer.
        if tries == 0:
            raise
        return make_locked(path, tries - 1)


def new_folder(path: Path) -> Path:
    """Create a folder next to `path` with the first free number; no two processes get the same folder."""
    for number in count():
        folder = path.with_name(f"{UNFINISHED}{path.name[:LONGEST_NAME]}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise AssertionError("there is always another number")


def delete_leftovers(path: Path, kind: str = "") -> None:
    """Delete the unfinished folders next to `path` whose writers are dead."""
    names = re.escape(kind) + ".*" if kind else re.escape(path.name[:LONGEST_NAME])
    is_leftover = re.compile(rf"{re.escape(UNFINISHED)}{names}-\d+", re.DOTALL)
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208  (only the names are needed)
            if is_leftover.fullmatch(name):
                with suppress(OSError):  # its writer is alive, or the folder belongs to another user
                    delete_leftover(path.parent / name)


def delete_leftover(folder: Path) -> None:
    if not (folder / LOCK).exists():
        # The folder is empty: its writer died before it created the lock file or after it deleted the file.
        folder.rmdir()
    elif (lock := take_lock(folder / LOCK)) is not None:
        delete_temporary(folder, lock)


def delete_temporary(folder: Path, lock: FileLock | None) -> None:
    """Delete a temporary folder whose lock this process holds; if this fails, the next writer tries again.

    The order matters. The content is deleted before the lock file, so that another process can finish the job
    if this process is killed. The lock file is deleted before the lock is released, so that no other process
    can lock the file in between. (Windows cannot delete an open file, so on Windows the lock is released
    first.) Once the lock is released, another process may reuse the folder's name. In that case the folder is
    not empty, and `rmdir` does not delete it.
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
    """Rename `folder` to `path`; the previous `path` is moved into the temporary folder `own`.

    If several processes do this at once, all of them succeed and the folder of the last one remains.
    """
    while True:
        try:
            folder.rename(path)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        else:
            return
        with suppress(FileNotFoundError):  # another process has just moved `path` away
            path.rename(Path(mkdtemp(dir=own)) / path.name)


def rename_to_free_name(folder: Path, path: Path) -> None:
    try:
        folder.rename(path)
    except OSError as error:
        if error.errno in TAKEN and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from error
        raise
