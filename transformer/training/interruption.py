"""Graceful shutdown: on a signal, the training loop finishes its update, saves and stops."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 75
"""Exit code of `transformer train` after a signal, when `--resume` can continue (EX_TEMPFAIL)."""

SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT") if hasattr(signal, name)
)
"""The signals that stop training; Windows has neither SIGHUP nor SIGUSR1."""


class TrainingStopped(Exception):  # noqa: N818 - it is not an error
    """A signal has stopped training; the run's newest checkpoint holds everything up to that point."""


class Interrupted(KeyboardInterrupt):
    """Raised by `interrupting`.

    If a plain `KeyboardInterrupt` passes through C code that runs Python code, as in some imports, Python
    remembers the exception. At exit, Python then kills the process with SIGINT, and the program's exit code
    is lost. Python does not do this for a subclass of `KeyboardInterrupt`.
    """


class StopRequest:
    """A request to stop, made by a signal. The object is true as soon as a signal has arrived."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.imports = imports_in(sys._getframe())
        self.is_raised = False
        """Whether `Interrupted` has been raised. If so, another SIGTERM is ignored, so cleanup can finish."""
        self.is_repeated = False
        """Whether the next signal is one that `repeat_soon` sends again, and not a new one."""
        self.is_over = False
        """Whether the block to interrupt has ended; further signals then have no effect."""

    def __bool__(self) -> bool:
        return self.name is not None

    def receive(self, number: int, _: FrameType | None) -> None:
        """Record the signal for the training loop; a second Ctrl-C interrupts immediately."""
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Raise `Interrupted` immediately or, during an import, as soon as the import has finished.

        An import that is interrupted half-way makes other modules fail and can make C++ code abort. A second
        Ctrl-C does not wait for the import.
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
        with suppress(RuntimeError):  # Python is exiting and starts no new threads
            _thread.start_new_thread(self.repeat, ())

    def repeat(self) -> None:
        time.sleep(0.02)
        if not self.is_over and not self.is_raised:  # a second Ctrl-C may have been raised meanwhile
            self.is_repeated = True
            _thread.interrupt_main(signal.Signals[str(self.name)])


def imports_in(frame: FrameType | None) -> int:
    """Count the frames of Python's import system on the stack."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


INTERRUPTING: list[StopRequest] = []
"""The requests of the active `interrupting` blocks, outermost first."""


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside the block, signals are recorded in the request that is yielded.

    Only the main thread can receive signals; in any other thread, this is a no-op.
    """
    request = StopRequest(unanswered())
    with handled_by(request.receive, SIGNALS):
        yield request


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Inside the block, signals interrupt immediately, because before training there is no update to finish.

    Ctrl-C raises `KeyboardInterrupt`. The other signals raise `TrainingStopped`, because `--resume` can
    continue the run.
    """
    stop(unanswered())
    with interrupting(SIGNALS) as request:
        try:
            yield
        except BaseException:  # any exception, because an interrupted import may fail in any way
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
    """Inside the block, these signals raise `Interrupted` in the main thread, but not during an import.

    If an exception is raised in a destructor or a callback, Python only prints the exception and continues.
    Therefore the hook below repeats the signal until it arrives in other code, where its exception ends the
    block.
    """
    request = StopRequest()
    print_unraisable = sys.unraisablehook

    def raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and request:
            request.is_raised = False
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
    """Return the name of a signal whose exception was caught by a library instead of ending the command."""
    return next((request.name for request in INTERRUPTING if request), None)


@contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: tuple[signal.Signals, ...]
) -> Iterator[None]:
    """Inside the block, `handler` handles these signals.

    Signals that are ignored (under `nohup`, or in a script's background jobs) stay ignored, and handlers that
    were not installed from Python stay in place.
    """
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
