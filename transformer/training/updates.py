"""The batches of each update: this process's share, prefetched while earlier updates are computed."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from transformer.data.epochs import EpochBatches
from transformer.training.distributed import Group

AHEAD = 3
"""The number of updates to prefetch: several, because the prefetching thread may have to wait for the GIL."""


class Update(NamedTuple):
    """This process's share of the batches of one update."""

    batches: list[Any]
    position: dict[str, int]
    """The data position after the whole update."""

    @property
    def tokens(self) -> int:
        """Target tokens of this process's share."""
        return sum(batch.target_tokens for batch in self.batches)


def updates(
    batches: EpochBatches[Any], accumulate: int, group: Group, device: torch.device
) -> Generator[Update, None, None]:
    """Yield updates endlessly, over as many epochs as needed.

    An update consists of the next `accumulate` × `group.size` batches in the epoch's order, and continues
    into the next epoch if necessary. The batches are distributed round-robin to the processes, so each update
    has the same batches with two processes as with one process and twice the `accumulate`. A thread
    prefetches the next updates and moves them to the device. If the thread fails, this generator raises the
    error when the failed update is due. Closing the generator ends the thread.
    """

    def prepare() -> Update:
        rows = batches.take(accumulate * group.size)
        share = [batches.fetch(part).to(device) for part in rows[group.rank :: group.size]]
        return Update(share, batches.state_dict())

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    with batches.planning_ahead():
        try:
            ahead = deque(reader.submit(prepare) for _ in range(AHEAD))
            while True:
                update = ahead.popleft().result()
                ahead.append(reader.submit(prepare))
                yield update
        finally:
            reader.shutdown(cancel_futures=True)


def shapes_of(batch: Any) -> str:
    """Return the names and shapes of a batch's tensors, for error messages."""
    return ", ".join(
        f"{name} {' x '.join(map(str, value.shape))}"
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    )


def corpus_lines(batch: Any, most: int = 8) -> str:
    """Return the line numbers of a batch's sentences in the corpus; an empty string if they are unknown."""
    lines = getattr(batch, "lines", None)
    if lines is None:
        return ""
    named = ", ".join(map(str, lines[:most]))
    return f"corpus lines {named}" + (f" and {len(lines) - most} more" if len(lines) > most else "")
