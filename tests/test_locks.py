"""A folder is locked by one process until that process ends."""

import errno
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from transformer.locks import LOCK, FolderInUseError, HeldFolder, locked_folder

FORK = multiprocessing.get_context("fork")


def hold(folder: Path) -> HeldFolder:
    warnings: list[str] = []
    with locked_folder(folder, warnings.append) as held:
        assert warnings == []
        return held


class Holder:
    """Another process that holds a folder's lock and may have forked a child."""

    def __init__(self, folder: Path, *, forks: bool = False) -> None:
        receive, send = FORK.Pipe(duplex=False)

        def work() -> None:
            with locked_folder(folder, print):
                child = os.fork() if forks else None
                if child == 0:
                    time.sleep(600)
                send.send(child)
                time.sleep(600)

        self.process = FORK.Process(target=work)
        self.process.start()
        self.child = receive.recv()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def kill_child(self) -> None:
        if self.child is not None:
            os.kill(self.child, signal.SIGKILL)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path):
    folder = tmp_path / "run"
    other = Holder(folder)
    try:
        who = rf"process {other.process.pid} on {socket.gethostname()} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
        with pytest.raises(FolderInUseError, match=f"run is being written by {who}.*; wait until"):
            hold(folder)
        with pytest.raises(FolderInUseError):  # the failed attempt has no effect
            hold(folder)
    finally:
        other.kill()
    assert hold(folder).path == folder


def test_one_process_cannot_hold_a_folder_twice(tmp_path):
    with (
        locked_folder(tmp_path, print),
        pytest.raises(FolderInUseError, match=f"process {os.getpid()} on"),
    ):
        hold(tmp_path)
    hold(tmp_path)


def test_a_folder_is_free_when_its_process_is_killed_though_a_forked_one_lives_on(tmp_path):
    other = Holder(tmp_path, forks=True)
    try:
        other.kill()
        os.kill(other.child, 0)  # the child is still alive
        hold(tmp_path)
    finally:
        other.kill_child()


def test_a_forked_process_does_not_release_what_its_parent_holds(tmp_path):
    with locked_folder(tmp_path, print):
        child = FORK.Process(target=lambda: None)  # exits normally
        child.start()
        child.join()
        with pytest.raises(FolderInUseError):
            hold(tmp_path)


def test_the_name_of_an_earlier_holder_does_not_stay(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on a machine with a name that is much longer " * 9)
    with locked_folder(tmp_path, print):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
        assert (tmp_path / LOCK).read_text().count("\n") == 1


def test_a_new_folder_in_which_nothing_was_written_is_deleted_again(tmp_path):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "runs" / "one", print):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with locked_folder(tmp_path / "runs" / "one", print):
        (tmp_path / "runs" / "one" / "file").touch()
    assert (tmp_path / "runs" / "one" / "file").exists()
    (tmp_path / "mine").mkdir()
    hold(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    warnings: list[str] = []
    with locked_folder(tmp_path, warnings.append), locked_folder(tmp_path, warnings.append):
        pass
    assert len(warnings) == 2
    assert warnings[0].startswith(f"{tmp_path}: its file system does not support locks")


def test_a_lock_that_cannot_be_written_still_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with locked_folder(tmp_path, print), pytest.raises(FolderInUseError, match="written by another process;"):
        hold(tmp_path)


@pytest.mark.parametrize("change", ["none", "moved", "deleted", "another", "file", "link"])
def test_a_folder_that_is_not_where_it_was_is_noticed(tmp_path, change):
    folder = tmp_path / "run"
    with locked_folder(folder, print) as held:
        if change in ("moved", "another", "file", "link"):
            folder.rename(tmp_path / "moved")
        if change == "deleted":
            (folder / LOCK).unlink()
            folder.rmdir()
        if change == "another":
            folder.mkdir()
        if change == "file":
            folder.touch()
        if change == "link":  # the same folder under another path
            folder.symlink_to(tmp_path / "moved")
        assert held.is_in_place() == (change in ("none", "link"))
    assert folder.exists() == (change not in ("none", "moved", "deleted"))
