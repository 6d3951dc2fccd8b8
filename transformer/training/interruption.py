"""Leaving in good order: a signal asks the loop to finish its update, save and stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75
"""What `transformer train` returns when a signal has stopped it and `--resume` continues (EX_TEMPFAIL)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class TrainingStopped(Exception):  # noqa: N818 - no error
    """A signal has stopped the training; the run's newest checkpoint holds all that was done."""


class StopRequest:
    """Whether one of the signals has come, and which."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def receive(self, number: int, _: FrameType | None) -> None:
        """A second Ctrl-C does not wait for the update."""
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Receives the signals until the end of the block; only a program's main thread can do that."""
    request = StopRequest()
    with handled_by(request.receive, SIGNALS):
        yield request


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Inside, where there is no update to finish yet, SIGTERM and SIGUSR1 interrupt as Ctrl-C does, but as
    `TrainingStopped`: `--resume` continues, too."""
    request = StopRequest()

    def interrupt(number: int, frame: FrameType | None) -> None:
        request.receive(number, frame)
        raise KeyboardInterrupt

    with handled_by(interrupt, (signal.SIGTERM, signal.SIGUSR1)):
        try:
            yield
        except KeyboardInterrupt:
            if request:
                raise TrainingStopped(f"stopped by {request.name} before the first update") from None
            raise


@contextmanager
def handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: tuple[signal.Signals, ...]
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
