"""Several processes that train one model together: what they add up and what they agree on.

`torchrun` starts the processes and tells each one its place through the environment. Every process holds the
whole model (DistributedDataParallel) and computes a share of each update's batches; all of them then take the
same step. A single process is a group of one, for which nothing here costs anything.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

LOST = re.compile(r"gloo|nccl|connection|timed out|timeout|peer|store", re.IGNORECASE)
"""What torch's errors about other processes have in common; they have no class of their own."""


class ProcessLostError(ValueError):
    """Another process of this training has died, or does not answer."""


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def sum(self, *numbers: int) -> list[int]:
        """Each number added up over the processes; it travels through the CPU, so no GPU has to wait."""
        totals = torch.tensor(numbers)
        if self.size > 1:
            torch.distributed.all_reduce(totals)
        return totals.tolist()

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place, on the tensor's own device."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def of_first(self, number: float) -> float:
        """The first process's number, so that all decide alike."""
        value = torch.tensor(number, dtype=torch.float64)
        if self.size > 1:
            torch.distributed.broadcast(value, src=0)
        return float(value)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is inside before the others do: they find what it has written."""
        if not self.is_first:
            self.sum(0)
        yield
        if self.is_first:
            self.sum(0)

    def wrap(self, model: nn.Module, device: torch.device) -> Any:
        """The model whose backward pass averages gradients over the processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # the only ones are tables of positions, equal everywhere
            gradient_as_bucket_view=True,
        )

    def without_sync(self, model: Any) -> AbstractContextManager[object]:
        """Gradients inside stay this process's own: a later backward pass of the update sends them along."""
        return model.no_sync() if self.size > 1 else nullcontext()


@contextmanager
def process_group(device: torch.device, timeout: float) -> Iterator[Group]:
    """The group that torchrun's environment describes; who waits longer than `timeout` seconds gives up."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        torch.distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))
        try:
            yield Group(torch.distributed.get_rank(), size)
        finally:
            torch.distributed.destroy_process_group()
    except RuntimeError as error:
        if LOST.search(str(error)) is None:
            raise
        raise ProcessLostError(
            f"process {os.environ.get('RANK')} of {size}: another one has died or did not answer within "
            f"{timeout:.0f} s ({str(error).strip().splitlines()[0]}); the last checkpoint is whole: go on "
            "with --resume (torchrun --max-restarts does it by itself)"
        ) from error
