"""Leaving in good order: a signal asks the loop to finish its update, save and stop."""

import signal
import threading
from collections.abc import Iterator
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
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
