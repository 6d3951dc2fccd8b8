"""What each update computes: this process's share of the batches, prepared while the last one is computed."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from transformer.data.epochs import EpochBatches
from transformer.training.distributed import Group


class Update(NamedTuple):
    """The batches of one update that this process computes."""

    batches: list[Any]
    position: dict[str, int]
    """Where the data stands behind the whole update."""

    @property
    def tokens(self) -> int:
        """Target tokens of this process's share."""
        return sum(batch.target_tokens for batch in self.batches)


def updates(
    batches: EpochBatches[Any], accumulate: int, group: Group, device: torch.device
) -> Generator[Update, None, None]:
    """Update after update, without end.

    An update takes the next `accumulate` × processes batches of the epoch's order, and each process those
    numbered rank, rank + processes, and so on: which batches an update has does not depend on how they are
    shared out, nor on whether an epoch ends within it. A thread reads ahead and moves to the device.
    """

    def prepare() -> Update:
        rows = batches.take(accumulate * group.size)
        share = [batches.fetch(part).to(device) for part in rows[group.rank :: group.size]]
        return Update(share, batches.state_dict())

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
        ahead = reader.submit(prepare)
        while True:
            update = ahead.result()
            ahead = reader.submit(prepare)
            yield update


def describe(batch: Any) -> str:
    """A batch's tensors and their shapes: what an error says of it."""
    return ", ".join(
        f"{name} {' x '.join(map(str, value.shape))}"
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    )


def corpus_lines(batch: Any, most: int = 8) -> str:
    """The lines of the corpus that a batch holds, where it knows them; empty otherwise."""
    lines = getattr(batch, "lines", None)
    if lines is None:
        return ""
    named = ", ".join(map(str, lines[:most]))
    return f"corpus lines {named}" + (f" and {len(lines) - most} more" if len(lines) > most else "")
