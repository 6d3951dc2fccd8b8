"""Leaving in good order: a signal asks the loop to finish its update, save and stop."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 75
"""What `transformer train` returns when a signal has stopped it and `--resume` continues (EX_TEMPFAIL)."""

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT") if hasattr(signal, name)
)
"""Windows has neither SIGHUP nor SIGUSR1."""


class TrainingStopped(Exception):  # noqa: N818 - no error
    """A signal has stopped the training; the run's newest checkpoint holds all that was done."""


class Interrupted(KeyboardInterrupt):
    """What `interrupting` raises. A plain `KeyboardInterrupt` that passes through C code which runs Python
    code, as in some imports, makes Python end with SIGINT instead of the exit code."""


class StopRequest:
    """Whether one of the signals has come, and which."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.imports = imports_in(sys._getframe())
        self.is_raised = False
        """An exception tells of the signal already; another SIGTERM must not disturb the cleaning up."""
        self.is_repeated = False
        """The next signal is not another one, but the same again."""
        self.is_over = False
        """What was to be interrupted has ended: further signals change nothing."""

    def __bool__(self) -> bool:
        return self.name is not None

    def receive(self, number: int, _: FrameType | None) -> None:
        """For the loop to see; a second Ctrl-C does not wait for the update."""
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """End what is being done, as Ctrl-C does: at once, or when an import is finished.

        An import that is cut in half makes other modules fail, and C++ code abort. A second Ctrl-C does not
        wait.
        """
        is_second = self.name is not None and number == signal.SIGINT and not self.is_repeated
        self.is_repeated = False
        if self.is_over or (self.is_raised and not is_second):
            return
        for request in (self, *INTERRUPTING):
            request.name = request.name or signal.Signals(number).name
        if imports_in(frame) > self.imports and not is_second:
            self.repeat_soon()
            return
        self.is_raised = True
        raise Interrupted

    def repeat_soon(self) -> None:
        with suppress(RuntimeError):  # no new threads: Python is exiting
            _thread.start_new_thread(self.repeat, ())

    def repeat(self) -> None:
        time.sleep(0.02)
        if not self.is_over:
            self.is_raised, self.is_repeated = False, True
            _thread.interrupt_main(signal.Signals[str(self.name)])


def imports_in(frame: FrameType | None) -> int:
    """How many functions of Python's import system are being executed."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


INTERRUPTING: list[StopRequest] = []
"""The requests of the `interrupting` blocks that are being executed, outermost first."""


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Receives the signals until the end of the block; only a program's main thread can do that."""
    request = StopRequest(unanswered())
    with handled_by(request.receive, SIGNALS):
        yield request


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Inside, where there is no update to finish yet, the signals interrupt as Ctrl-C does, but all others as
    `TrainingStopped`: `--resume` continues, too."""
    stop(unanswered())
    with interrupting(SIGNALS) as request:
        try:
            yield
        except BaseException:  # of any kind: the signal may have cut an import in half
            if not request:
                raise
    stop(request.name)


def stop(name: str | None) -> None:
    if name == "SIGINT":
        raise KeyboardInterrupt
    if name:
        raise TrainingStopped(f"stopped by {name} before the first update")


@contextmanager
def interrupting(numbers: tuple[signal.Signals, ...]) -> Iterator[StopRequest]:
    """Inside, each of these signals raises `KeyboardInterrupt` in the main thread, but not within an import.

    Python drops an exception in a destructor or a callback, and prints it: here it is raised again outside.
    """
    request = StopRequest()
    print_unraisable = sys.unraisablehook

    def raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and request:
            request.repeat_soon()
        else:
            print_unraisable(unraisable)

    INTERRUPTING.append(request)
    sys.unraisablehook = raise_again
    try:
        with handled_by(request.interrupt, numbers):
            yield request
    finally:
        request.is_over = True
        INTERRUPTING.remove(request)
        sys.unraisablehook = print_unraisable


def unanswered() -> str | None:
    """The signal that was to end the command at once, if a library has swallowed the exception."""
    return next((request.name for request in INTERRUPTING if request), None)


@contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: tuple[signal.Signals, ...]
) -> Iterator[None]:
    """Handles these signals, except those that are ignored (`nohup`, a script's background jobs) or that
    something other than Python handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    left_alone = (signal.SIG_IGN, None)
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: previous for number, previous in before.items() if previous not in left_alone}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
