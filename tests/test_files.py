"""A file or folder is either complete or unchanged, even if a writer is killed or several write at once."""

import errno
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from transformer import files
from transformer.files import (
    LOCK,
    NEW,
    UNFINISHED,
    flush,
    unfinished_folder,
    whole_file,
    whole_folder,
    write,
    write_whole,
)

FORK = multiprocessing.get_context("fork")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_all_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writes", [True, False])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, writes):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with whole_file(path) as unfinished:
            if writes:
                unfinished.write_text("half of the ")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    with whole_file(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.parametrize("name", [LOCK, NEW, "a" * 255, "ü" * 127, ".unfinished-x", "[a]*", "a\nb"])
def test_every_name_can_be_written(tmp_path, name):
    for _ in range(2):
        write_whole(tmp_path / name, "whole")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / name, replace=True):
        raise ZeroDivisionError
    assert (tmp_path / name).read_text() == "whole"
    assert names(tmp_path) == [name]


# Several writers at once


def test_each_of_two_writers_has_its_own_unfinished_file(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as one:
        one.write_text("one, ")
        with whole_file(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        with one.open("a") as file:
            file.write("whole")
    assert path.read_text() == "one, whole"
    assert names(tmp_path) == ["file"]


def at_once(work, count: int = 4) -> list[int]:
    """Call `work` in `count` processes at once, with the number of the process; returns their exit codes."""
    processes = [FORK.Process(target=work, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_many_writers_of_one_file_all_succeed_and_it_is_always_whole(tmp_path):
    """Each writer also looks for leftovers, and must not delete the folders that the others are using."""
    path = tmp_path / "file"
    path.write_text("0" * 1000)

    def write_often(number: int) -> None:
        for _ in range(40):
            write_whole(path, str(number) * 1000)
            content = path.read_text()
            assert content == content[0] * 1000

    assert at_once(write_often) == [0] * 4
    assert names(tmp_path) == ["file"]


def test_many_writers_of_one_folder_all_succeed_and_the_last_one_stays(tmp_path):
    path = tmp_path / "folder"

    def replace_often(number: int) -> None:
        for _ in range(40):
            with whole_folder(path, replace=True) as folder:
                for name in ("a", "b"):
                    write(folder / name, str(number))

    assert at_once(replace_often) == [0] * 4
    assert names(path) == ["a", "b"]
    assert (path / "a").read_text() == (path / "b").read_text()
    assert names(tmp_path) == ["folder"]


def test_of_many_writers_of_a_new_folder_one_wins(tmp_path):
    path = tmp_path / "folder"
    ready = FORK.Barrier(4)

    def make(number: int) -> None:
        with suppress(FileExistsError), whole_folder(path) as folder:
            write(folder / "a", str(number))
            ready.wait()
        (tmp_path / f"done-{number}").touch()

    assert at_once(make) == [0] * 4
    assert names(path) == ["a"]
    assert names(tmp_path) == [*(f"done-{number}" for number in range(4)), "folder"]


def test_a_second_writer_gets_an_error_and_changes_nothing(tmp_path):
    path = tmp_path / "folder"

    def come_too_late():
        with whole_folder(path) as late:
            write(late / "a", "late")
            with whole_folder(path) as early:
                write(early / "a", "early")

    with pytest.raises(FileExistsError, match="folder") as info:
        come_too_late()
    assert info.value.filename == str(path)
    assert (path / "a").read_text() == "early"
    assert names(tmp_path) == ["folder"]


def test_a_file_gives_way_to_a_folder_that_replaces_it(tmp_path):
    (tmp_path / "name").write_text("file")
    with whole_folder(tmp_path / "name", replace=True) as folder:
        write(folder / "a", "whole")
    assert names(tmp_path / "name") == ["a"]


# Leftovers


def killed_while_writing(path: Path, *, child_lives: bool = False) -> int | None:
    """Kill a process while it is writing `path`; returns the id of the process that it forked, if any."""
    receive, send = FORK.Pipe(duplex=False)

    def work() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("half")
            child = os.fork() if child_lives else None
            if child == 0:
                time.sleep(600)
            send.send(child)
            time.sleep(600)

    process = FORK.Process(target=work)
    process.start()
    child = receive.recv()
    process.kill()
    process.join()
    return child


@pytest.mark.parametrize("child_lives", [False, True])
def test_the_next_writer_of_the_same_name_deletes_what_a_killed_one_has_left(tmp_path, child_lives):
    """Even if the killed process has forked a child that is still alive, as data loading libraries do."""
    path = tmp_path / "file"
    child = killed_while_writing(path, child_lives=child_lives)
    try:
        (left,) = tmp_path.glob(".unfinished-file-*")
        killed_while_writing(tmp_path / "file-2")
        write_whole(tmp_path / "fil", "whole")
        assert left.is_dir()  # only leftovers of the same name are deleted
        write_whole(path, "whole")
    finally:
        if child is not None:
            os.kill(child, signal.SIGKILL)
    assert not left.exists()
    assert path.read_text() == "whole"
    assert len(list(tmp_path.glob(".unfinished-file-2-*"))) == 1
    with whole_folder(tmp_path / "file-1", kind="file-"):
        pass
    assert names(tmp_path) == ["fil", "file", "file-1"]


def test_what_a_living_process_writes_is_no_leftover(tmp_path):
    with unfinished_folder(tmp_path / "file") as own:
        (own / "file").write_text("half")
        assert at_once(lambda _: write_whole(tmp_path / "file", "whole")) == [0] * 4
        assert (own / "file").read_text() == "half"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("content", "stays"),
    [({}, False), ({LOCK}, False), ({LOCK, NEW}, False), ({NEW}, True)],
    ids=["empty", "lock", "lock and new", "no lock"],
)
def test_a_leftover_may_be_incomplete_itself(tmp_path, content, stays):
    """Its process may have been killed before it took the lock, or while deleting the folder."""
    left = tmp_path / f"{UNFINISHED}file-7"
    left.mkdir()
    for name in content:
        (left / name).mkdir() if name == NEW else (left / name).touch()
    write_whole(tmp_path / "file", "whole")
    assert left.exists() == stays


def test_a_writer_whose_new_folder_is_taken_for_a_leftover_makes_another(tmp_path, monkeypatch):
    """Until the new folder is locked, another process cannot tell it from a leftover."""
    take_lock, taken = files.take_lock, []

    def disturbed(path: Path, **options):
        if not taken:
            taken.append(path)
            files.delete_leftover(path.parent)
        return take_lock(path, **options)

    monkeypatch.setattr(files, "take_lock", disturbed)
    write_whole(tmp_path / "file", "whole")
    assert not taken[0].parent.exists()
    assert names(tmp_path) == ["file"]


# Disks and file systems


def failing_write(monkeypatch, error: int) -> None:
    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(error, os.strerror(error))  # without a file name, like the error of a real write

    monkeypatch.setattr(Path, "write_bytes", fail)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_an_error_names_the_file_that_could_not_be_written(tmp_path, monkeypatch, error):
    path = tmp_path / "file"
    path.write_text("old")
    failing_write(monkeypatch, error)
    with pytest.raises(OSError, match=os.strerror(error)) as info:
        write_whole(path, "new")
    assert (info.value.errno, info.value.filename) == (error, str(path))

    def fill():
        with whole_folder(tmp_path / "new") as folder:
            (folder / "sub").mkdir()
            write(folder / "sub" / "a", "new")

    with pytest.raises(OSError, match=os.strerror(error)) as info:
        fill()
    assert (info.value.errno, info.value.filename) == (error, str(tmp_path / "new" / "sub" / "a"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_missing_folder_is_an_error_with_the_files_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as info:
        write_whole(Path("none/file"), "new")
    assert info.value.filename in ("none/file", str(tmp_path / "none" / "file"))


def test_a_file_system_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    with unfinished_folder(tmp_path / "file"):
        write_whole(tmp_path / "file", "whole")
        assert len(list(tmp_path.glob(".unfinished-*"))) == 1  # without locks, leftovers cannot be recognised
    assert names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_flushed_is_left_to_its_file_system(tmp_path, monkeypatch):
    (tmp_path / "file").touch()

    def refuse(_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse)
    flush(tmp_path)
    with pytest.raises(OSError, match="Invalid argument") as info:
        flush(tmp_path / "file")
    assert info.value.filename == str(tmp_path / "file")
