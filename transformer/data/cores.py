"""Runs a slow Python function on all cores: each call's items are divided among several processes."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, ClassVar, Generic, TypeVar

Result = TypeVar("Result")


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers(Generic[Result]):
    """Splits the lists of each call into one share per process, and calls `function` on every share.

    All lists must have the same length. The processes are forked, so `function` need not be picklable. Use
    this class only on Linux: elsewhere, forking a process that has threads may crash. The results are pickled
    and come back in the order of the shares. A call raises `ChildProcessError` if a process is killed.
    """

    function: ClassVar[Callable[..., Any]]
    """The function to call; it is set only in the worker processes."""

    def __init__(self, function: Callable[..., Result], processes: int) -> None:
        self.processes = processes
        self.pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("fork"), initializer=begin, initargs=(function,)
        )

    def __call__(self, *lists: Sequence[Any]) -> list[Result]:
        size = -(-len(lists[0]) // self.processes)
        shares = [[each[start : start + size] for each in lists] for start in range(0, len(lists[0]), size)]
        with warnings.catch_warnings():
            # Python 3.12 warns if a process with threads is forked; the workers do not need these threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                return list(self.pool.map(work, shares))
            except BrokenProcessPool:
                raise ChildProcessError(
                    "one of the processes that share this work was killed, perhaps because memory ran out; "
                    "with fewer cores (taskset -c 0 ...), fewer processes are started"
                ) from None

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def begin(function: Callable[..., Any]) -> None:
    """Prepare a worker process, which leaves signal handling to its parent and ends when the parent ends."""
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the workers; the parent handles it
    threading.Thread(target=end_with_parent, daemon=True).start()
    Workers.function = function


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def work(share: list[Sequence[Any]]) -> Any:
    return Workers.function(*share)
