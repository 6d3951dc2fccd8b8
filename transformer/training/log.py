"""A run's diary: `log.jsonl`, files for TensorBoard, and figures over the updates since the last line."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from transformer.checkpoint.run import Run
from transformer.messages import standard_error, tell
from transformer.training.distributed import Group


class Log:
    """A run's `log.jsonl`: one JSON object per event, written at once; the same figures for TensorBoard.

    The first event's step is that of the checkpoint that training goes on from: TensorBoard hides what an
    earlier start has drawn beyond it.
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
                    self.board.add_scalar(f"{event}/{name}", value, step)
                self.board.flush()
        except OSError as error:  # a full disk must not end the training
            tell(f"\nwarning: {self.path}: {error}; a line of the log is lost")


def as_json(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def board_maker(run: Run) -> Callable[..., Any]:
    """Makes TensorBoard's writer into the folder `tensorboard` of the run."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "training.tensorboard needs the package tensorboard; pip install 'transformer[tensorboard]'"
        ) from None
    return partial(SummaryWriter, run.path / "tensorboard")


class Meter:
    """Mean loss per token and target tokens per second since the last reading.

    Losses are added up on their device and only read back when asked for, so that a GPU never waits.
    """

    def __init__(self, group: Group | None = None) -> None:
        self.group = group or Group()
        self.losses: list[Tensor] = []
        self.tokens: list[Tensor] = []
        self.start = time.perf_counter()

    def add(self, loss: Tensor, tokens: int, finite: Tensor) -> None:
        """Count an update: the sum of this process's losses, the tokens of all; not if it was skipped."""
        self.losses.append(torch.where(finite > 0, loss, 0.0))
        self.tokens.append(tokens * finite)

    def read(self) -> dict[str, float]:
        """The figures since the last reading; the loss is NaN if every update was skipped."""
        tokens = float(torch.stack(self.tokens).double().sum())
        total = float(self.group.sum_tensor(torch.stack(self.losses).sum()))
        loss = total / tokens if tokens else math.nan
        seconds = time.perf_counter() - self.start
        values = {"loss": loss, "tokens": int(tokens), "tokens_per_second": tokens / seconds}
        self.losses, self.tokens, self.start = [], [], time.perf_counter()
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count as time spent on training."""
        began = time.perf_counter()
        yield
        self.start += time.perf_counter() - began


def progress_bar(done: int, total: int, *, hidden: bool) -> "tqdm[NoReturn]":
    """On a terminal it moves all the time; in a file a line now and then is enough."""
    stream = standard_error()
    seconds = 0.2 if stream.isatty() else 15.0
    return tqdm(
        total=total,
        initial=done,
        unit="update",
        mininterval=seconds,
        maxinterval=2 * seconds,
        file=stream,
        dynamic_ncols=True,
        disable=hidden,
    )
