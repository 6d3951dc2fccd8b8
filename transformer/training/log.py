"""A run's log: `log.jsonl`, files for TensorBoard, and the averages that its `train` events report."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from transformer.checkpoint.run import Run
from transformer.config.errors import install_extra
from transformer.messages import warn
from transformer.training.distributed import Group


@dataclass(frozen=True)
class Event:
    """One event of a training run; `log.jsonl` has one line for each event."""

    name: str
    """The kind of the event: data, train, valid, save, resume, skip, stop and so on."""
    step: int
    """The number of updates done so far."""
    figures: dict[str, Any]


def telling(log: Callable[..., None], on_event: Callable[[Event], object]) -> Callable[..., None]:
    """Return a function that calls `log` and then `on_event`."""

    def log_and_tell(event: str, step: int, **values: Any) -> None:
        log(event, step, **values)
        on_event(Event(event, step, values))

    return log_and_tell


class Log:
    """A run's `log.jsonl`, one JSON object per event, flushed at once; optionally also TensorBoard's files.

    If training is resumed, the first event must have the step number of the checkpoint from which training
    continues. TensorBoard then hides the points that the interrupted training logged after that checkpoint.
    """

    def __init__(self, run: Run, *, tensorboard: bool = False) -> None:
        self.path = run.log
        self.make_board = board_maker(run) if tensorboard else None
        self.board: Any = None

    def __call__(self, event: str, step: int, **values: Any) -> None:
        written = {name: as_json(value) for name, value in values.items()}
        entry = {"event": event, "step": step, "time": round(time.time(), 3), **written}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")
            if self.make_board is not None and self.board is None:
                self.board = self.make_board(purge_step=step + 1)
            if self.board is not None and event in ("train", "valid"):
                for name, value in values.items():
                    if isinstance(value, int | float):
                        self.board.add_scalar(f"{event}/{name}", value, step)
                self.board.flush()
        except OSError as error:  # a full disk must not stop training
            warn(f"{self.path}: {error}; a line of the log is lost")


def as_json(value: Any) -> Any:
    """Return the value, or None for NaN and infinity, which JSON does not support."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def board_maker(run: Run) -> Callable[..., Any]:
    """Return a function that opens TensorBoard's writer in the run's folder `tensorboard`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            f"training.tensorboard needs the package tensorboard; {install_extra('tensorboard')}"
        ) from None
    return partial(SummaryWriter, run.path / "tensorboard")


class Meter:
    """Measures the mean loss per token and the target tokens per second since the last `read`.

    Losses stay on their device until `read`, because reading them forces a synchronization with the GPU.
    """

    def __init__(self, group: Group | None = None) -> None:
        self.group = group or Group()
        self.losses: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.start = time.perf_counter()

    def add(self, loss: Tensor, tokens: int, finite: Tensor) -> None:
        """Add an update: the loss, summed over this process's tokens, and the token count of all processes.

        If `finite` is 0, the update was skipped, and its loss and tokens count as 0.
        """
        self.losses.append(torch.where(finite > 0, loss, 0.0))
        self.tokens.append(tokens * finite)

    def read(self) -> dict[str, float]:
        """Return the averages since the last call; the loss is NaN if every update was skipped."""
        tokens = float(torch.stack(self.tokens).cpu().double().sum())  # not every GPU supports float64
        total = float(self.group.sum_tensor(torch.stack(self.losses).sum()))
        loss = total / tokens if tokens else math.nan
        seconds = time.perf_counter() - self.start
        values = {"loss": loss, "tokens": int(tokens), "tokens_per_second": tokens / seconds}
        self.losses, self.tokens, self.start = [], [], time.perf_counter()
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside the block, the time is not counted as training time."""
        began = time.perf_counter()
        yield
        self.start += time.perf_counter() - began
