"""Locks on files, which the system releases when their process dies, whatever it has forked."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
"""The file in a locked folder; it says which process writes there, or wrote there last."""
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems without locks answer: some network file systems, as they are mounted."""
GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""What systems answer for a folder that is not there, or not any more."""


class FolderInUseError(ValueError):
    """Another process writes to a folder; one line says which."""


@dataclass(frozen=True)
class HeldFolder:
    """A folder that this process alone writes to, as it was when its lock was taken."""

    path: Path
    status: os.stat_result

    def is_in_place(self) -> bool:
        """Whether its path still leads to it; the open lock keeps its number from being used again."""
        try:
            return os.path.samestat(self.path.stat(), self.status)
        except OSError as error:
            return error.errno not in GONE


def take_lock(path: Path, *, on_acquired: Callable[[int], None] | None = None) -> FileLock | None:
    """Lock the file `path`, which is made if it is missing; `None` if its file system has no locks.

    `Timeout` if another process holds it. `on_acquired` gets the locked file's descriptor, which filelock
    closes in forked processes.
    """
    lock = FileLock(path, thread_local=False, fallback_to_soft=False, on_acquired=on_acquired)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
    return lock


@contextmanager
def locked_folder(path: Path, warn: Callable[[str], None]) -> Iterator[HeldFolder]:
    """Inside, nobody else holds the folder `path`, which is made if it is missing.

    `FolderInUseError` that names the process that holds it. `warn` is told if the file system has no locks. A
    new folder in which nothing was written is deleted again.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    lock = None
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock = take_lock(path / LOCK, on_acquired=sign)
        except Timeout:
            raise FolderInUseError(
                f"{path} is being written by {holder(path / LOCK)}; wait until that has ended, or choose "
                "another --output"
            ) from None
        except FileNotFoundError:
            continue  # another process has just deleted the folder, in which it had written nothing
        break
    if lock is None:
        warn(f"{path}: its file system has no locks, so nothing keeps a second process from writing there")
    held = HeldFolder(path, path.stat())
    try:
        yield held
    finally:
        with suppress(OSError):
            if made and held.is_in_place() and [entry.name for entry in path.iterdir()] == [LOCK]:
                (path / LOCK).unlink()  # before the release: nobody gets the lock of a file without a name
                for folder in made:
                    folder.rmdir()
        if lock is not None:
            lock.release()


def sign(descriptor: int) -> None:
    """Write into a locked file which process holds it; without room on the disk, nothing."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
        os.fsync(descriptor)  # other machines read it


def holder(lock: Path) -> str:
    """Which process holds a locked file, as far as it can be read."""
    with suppress(OSError):
        if text := lock.read_text(encoding="utf-8", errors="replace").strip():
            return text
    return "another process"
