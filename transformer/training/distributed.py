"""Training one model in several processes, which add up numbers and average gradients.

`torchrun` starts the processes and sets each process's rank in its environment. Every process holds the whole
model (DistributedDataParallel) or a part of the model (`training/parallel.py`) and computes a share of each
update's batches. Then all processes take the same optimizer step. A single process is a group of size 1, for
which every operation in this module is a no-op.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from inspect import signature
from threading import Thread
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from transformer.hardware import NO_TIMEOUT
from transformer.messages import tell
from transformer.processes import rank_and_size
from transformer.training.coordination import Processes, ProcessLostError

Found = TypeVar("Found")
LOST = re.compile(r"gloo|NCCL|TCPStore|[Cc]onnection (closed|reset|refused)|[Tt]imed out")
"""Matches torch's error messages about lost processes. The pattern is needed because some of these errors are
not of the type `DistError`."""
RESUME = "the last checkpoint is complete: continue with --resume (torchrun --max-restarts does so itself)"
"""The advice to the user when a process is lost during training."""


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters of this model are divided among the processes (`training/parallel.py`)."""
    return hasattr(model, "unshard")  # not `isinstance`: importing FSDPModule takes half a second


@dataclass(frozen=True)
class Group(Processes):
    """The processes that train together, as seen from this one."""

    timeout: float = 0.0
    """Seconds that a process waits for the others during training before it fails."""
    advice: str = RESUME
    """The advice to the user when a process is lost."""

    def sum(self, *numbers: int) -> list[int]:
        """Sum each number over the processes, on the CPU, so that no GPU has to be synchronized."""
        totals = torch.tensor(numbers)
        if self.size > 1:
            torch.distributed.all_reduce(totals)
        return totals.tolist()

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place, on the tensor's own device."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def of_first(self, number: float) -> float:
        """Return the `number` of the first process, so that all processes use the same value."""
        value = torch.tensor(number, dtype=torch.float64)
        if self.size > 1:
            torch.distributed.broadcast(value, src=0)
        return float(value)

    def wrap(self, model: nn.Module, device: torch.device) -> Any:
        """Wrap the model in DistributedDataParallel, whose backward pass averages gradients over processes.

        A sharded model (`training/parallel.py`) is returned unchanged, because it averages its gradients
        itself.
        """
        if self.size == 1 or is_sharded(model):
            return model
        # Buffers need no syncing, because the only buffers are tables of positions, which are the same in
        # every process. The option that turns the syncing off was renamed in torch 2.13.
        known = signature(DistributedDataParallel).parameters
        sync_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        device_ids = [device] if device.type == "cuda" else None
        options: dict[str, Any] = {sync_buffers: False, "gradient_as_bucket_view": True}
        return DistributedDataParallel(model, device_ids=device_ids, **options)

    def without_sync(self, model: Any) -> AbstractContextManager[object]:
        """Inside the block, gradients stay in this process; a later backward pass exchanges them.

        A sharded model still exchanges gradients in every backward pass, because no process has enough memory
        for the gradients of the whole model.
        """
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    @contextmanager
    def naming_lost_processes(self) -> Iterator[None]:
        """Turn torch's errors about lost processes into a `ProcessLostError` with a message of one line.

        The message is also printed at once, because torchrun is about to kill this process too.
        """
        try:
            yield
        except RuntimeError as error:
            is_lost = isinstance(error, torch.distributed.DistError) or LOST.search(str(error)) is not None
            if self.size == 1 or not is_lost:
                raise
            message = (
                f"process {self.rank} of {self.size}: another process has died or did not answer within "
                f"{self.timeout:.0f} s ({str(error).strip().splitlines()[0]}); {self.advice}"
            )
            tell(f"\n{message}")
            raise ProcessLostError(message) from error


def interruptible(wait: Callable[[], Found]) -> Found:
    """Return the result of `wait`, a function that blocks in C++, where Python cannot handle signals.

    `wait` is called in a separate thread, so that SIGTERM or Ctrl-C can interrupt the main thread at once.
    """
    done: Future[Found] = Future()

    def work() -> None:
        try:
            done.set_result(wait())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=work, daemon=True).start()
    while not done.done():
        time.sleep(0.05)
    return done.result()


ALONE = Group()


@contextmanager
def process_group(device: torch.device, timeout: float, advice: str = RESUME) -> Iterator[Group]:
    """Inside the block, this process belongs to the group that torchrun's environment describes.

    An operation that waits for another process fails after `timeout` seconds. `advice` tells the user what to
    do when a process is lost.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    group = Group(rank, size, timeout=timeout, advice=advice)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with group.naming_lost_processes():
        patience = timedelta(seconds=timeout)
        store, rank, size = interruptible(lambda: next(rendezvous("env://", timeout=patience)))
        # After a restart, the store may still hold the addresses of the dead processes, so use a new prefix.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=patience
        )
        untimed = torch.distributed.new_group(backend="gloo", timeout=NO_TIMEOUT)
        try:
            yield replace(group, untimed=untimed)
        finally:
            torch.distributed.destroy_process_group()
