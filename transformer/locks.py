"""File locks.

The operating system releases a lock when the process that holds it dies, even if that process has forked.
"""

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
"""The lock file in a folder. It names the process that holds the lock, or the last process that held it."""
LONGEST_HOLDER = 300
"""At most this many bytes of a lock file are read."""
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""The errors of file systems that do not support locks, such as some network mounts."""
GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
"""The errors for a folder that does not exist, or no longer exists."""


class FolderInUseError(ValueError):
    """Raised if another process is writing to a folder; the message names the folder and the process."""


@dataclass(frozen=True)
class HeldFolder:
    """A folder locked by this process, and its identity at the time when the lock was taken."""

    path: Path
    status: os.stat_result

    def is_in_place(self) -> bool:
        """Whether the path still leads to this folder.

        The comparison of inodes is reliable, because the open lock file keeps the inode from being reused.
        """
        try:
            return os.path.samestat(self.path.stat(), self.status)
        except OSError as error:
            return error.errno not in GONE


def take_lock(path: Path, *, on_acquired: Callable[[int], None] | None = None) -> FileLock | None:
    """Lock the file `path`, creating it if needed; return None if its file system does not support locks.

    Raises `Timeout` if another process holds the lock. `on_acquired` is called with the locked file's
    descriptor. In forked processes, filelock closes the descriptor, so they do not keep the lock.
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
    """Hold the lock on the folder `path` inside the block; the folder is created if it does not exist.

    Raises `FolderInUseError` if another process holds the lock. `warn` is called if the file system does not
    support locks. A folder created by this function is deleted at the end if nothing was written to it.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    lock = None
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock = take_lock(path / LOCK, on_acquired=sign)
        except Timeout:
            raise FolderInUseError(
                f"{path} is being written by {holder(path / LOCK)}; wait until that process ends, or choose "
                "another --output"
            ) from None
        except FileNotFoundError:
            continue  # another process, which had written nothing to the folder, has just deleted it
        break
    if lock is None:
        warn(
            f"{path}: its file system does not support locks, so nothing prevents a second process from "
            "writing to this folder"
        )
    held = HeldFolder(path, path.stat())
    try:
        yield held
    finally:
        with suppress(OSError):
            if made and held.is_in_place() and [entry.name for entry in path.iterdir()] == [LOCK]:
                # the file is still locked, so no other process can lock it just before it is deleted
                (path / LOCK).unlink()
                for folder in made:
                    folder.rmdir()
        if lock is not None:
            lock.release()


def sign(descriptor: int) -> None:
    """Write this process's id, its machine and the time into the lock file, unless the disk is full."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
        os.fsync(descriptor)  # so that other machines can read the line


def holder(lock: Path) -> str:
    """Return the process that a lock file names, or `another process` if the file cannot be read."""
    with suppress(OSError), lock.open("rb") as file:
        if text := " ".join(file.read(LONGEST_HOLDER).decode(errors="replace").split()):
            return text
    return "another process"
