"""Several processes that train one model together: what they add up and what they agree on.

`torchrun` starts the processes and tells each one its place through the environment. Every process holds the
whole model (DistributedDataParallel) and computes a share of each update's batches; all of them then take the
same step. A single process is a group of one, for which nothing here costs anything.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
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

from transformer.hardware import PATIENCE, rank_and_size
from transformer.messages import tell

Found = TypeVar("Found")
LOST = re.compile(r"gloo|NCCL|TCPStore|[Cc]onnection (closed|reset|refused)|[Tt]imed out")
"""What torch's errors about other processes have in common; not all have the class that is made for them."""


RESUME = "the last checkpoint is whole: go on with --resume (torchrun --max-restarts does it by itself)"
"""What to do when a process of a training is lost."""


class ProcessLostError(ValueError):
    """Another process of this group has died, or does not answer; standard error has the line already."""


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    timeout: float = 0.0
    """Seconds that a process waits for the others in training before it gives up."""
    patient: torch.distributed.ProcessGroup | None = None
    """The same processes, where nobody gives up: only who dies is missed."""
    advice: str = RESUME
    """What to do when a process is lost."""

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

    def collect(self, share: list[Any]) -> list[Any]:
        """All items in order, of which every process holds each `size`-th, beginning with its rank.

        They travel pickled, between this training's own processes.
        """
        if self.size == 1:
            return share
        shares: list[list[Any]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(shares, share)
        items = [None] * sum(map(len, shares))
        for rank, part in enumerate(shares):
            items[rank :: self.size] = part
        return items

    def of_first(self, number: float) -> float:
        """The first process's number, so that all decide alike."""
        value = torch.tensor(number, dtype=torch.float64)
        if self.size > 1:
            torch.distributed.broadcast(value, src=0)
        return float(value)

    def from_first(self, make: Callable[[], Found]) -> Found:
        """What `make` returns in the first process, or the error of the user or the system that it raises.

        However long it takes, the others wait for it, and all of them return or raise the same.
        """
        if self.size == 1:
            return make()
        found: list[Any] = [None, None]
        if self.is_first:
            try:
                found[0] = make()
            except (ValueError, OSError) as error:
                found[1] = error
        torch.distributed.broadcast_object_list(found, src=0, group=self.patient)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def require_equal(self, given: Mapping[str, Any]) -> None:
        """`ValueError`, the same in every process, unless all of them were given the same values by name."""
        if self.size == 1:
            return
        everyone: list[Any] = [None] * self.size
        own = {name: repr(value) for name, value in given.items()}
        torch.distributed.all_gather_object(everyone, own, group=self.patient)
        first = everyone[0]
        for rank, theirs in enumerate(everyone):
            for name in {**first, **theirs}:
                if first.get(name) != theirs.get(name):
                    raise ValueError(
                        f"process {rank} was given {name} {theirs.get(name)}, process 0 {name} "
                        f"{first.get(name)}; start all processes with the same"
                    )

    def wait(self) -> None:
        """Until all processes have come as far, however long reading a text takes one of them."""
        if self.size > 1:
            torch.distributed.barrier(group=self.patient)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is inside before the others do: they find what it has written."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def wrap(self, model: nn.Module, device: torch.device) -> Any:
        """The model whose backward pass averages gradients over the processes."""
        if self.size == 1:
            return model
        # The only buffers are tables of positions, equal everywhere. Before torch 2.13 the option had another
        # name.
        known = signature(DistributedDataParallel).parameters
        sync_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        device_ids = [device] if device.type == "cuda" else None
        options: dict[str, Any] = {sync_buffers: False, "gradient_as_bucket_view": True}
        return DistributedDataParallel(model, device_ids=device_ids, **options)

    def without_sync(self, model: Any) -> AbstractContextManager[object]:
        """Gradients inside stay this process's own: a later backward pass of the update sends them along."""
        return model.no_sync() if self.size > 1 else nullcontext()

    @contextmanager
    def naming_lost_processes(self) -> Iterator[None]:
        """Torch's many errors about other processes become a `ProcessLostError` of one line, which is said at
        once: torchrun now ends this process, too."""
        try:
            yield
        except RuntimeError as error:
            is_lost = isinstance(error, torch.distributed.DistError) or LOST.search(str(error)) is not None
            if self.size == 1 or not is_lost:
                raise
            message = (
                f"process {self.rank} of {self.size}: another one has died or did not answer within "
                f"{self.timeout:.0f} s ({str(error).strip().splitlines()[0]}); {self.advice}"
            )
            tell(f"\n{message}")
            raise ProcessLostError(message) from error


def interruptible(wait: Callable[[], Found]) -> Found:
    """The result of a call that waits in C++, where Python cannot handle signals.

    It runs in a thread of its own, so that SIGTERM or Ctrl-C ends the waiting main thread at once.
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
    """The group that torchrun's environment describes; who waits longer than `timeout` seconds gives up.

    `advice` says what to do when a process is lost.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    group = Group(rank, size, timeout, advice=advice)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with group.naming_lost_processes():
        patience = timedelta(seconds=timeout)
        store, rank, size = interruptible(lambda: next(rendezvous("env://", timeout=patience)))
        # After a restart the store may still hold the addresses of the processes that are no more.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=patience
        )
        patient = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        try:
            yield replace(group, patient=patient)
        finally:
            torch.distributed.destroy_process_group()
