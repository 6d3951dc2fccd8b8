"""Endless batches, epoch after epoch, in a resumable order."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BatchType = TypeVar("BatchType")
Moved = TypeVar("Moved", bound="TensorBatch")
Plan = list[NDArray[np.int64]]
"""The batches of an epoch; each is an array of row numbers."""


def on_device(tokens: Tensor, device: torch.device | str) -> Tensor:
    """Copy `tokens` to `device`.

    The copy to a GPU is asynchronous and from pinned memory, so the CPU need not wait until the GPU finishes
    its queued work.
    """
    if torch.device(device).type == "cuda" and tokens.device.type == "cpu":
        return tokens.pin_memory().to(device, non_blocking=True)
    return tokens.to(device)


class TensorBatch:
    """Base class of all tasks' batches, which are frozen dataclasses; `to` moves all tensors to a device."""

    def to(self: Moved, device: torch.device | str) -> Moved:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved = {name: on_device(tensor, device) for name, tensor in tensors.items()}
        return replace(self, **moved)  # type: ignore[type-var]  # subclasses are dataclasses


class EpochBatches(ABC, Generic[BatchType]):
    """An endless iterator whose only state is the epoch and the position in that epoch.

    A subclass decides which rows make up the batches of an epoch, and fetches the batches. Its constructor
    must call `super().__init__` last, because that calls `epoch`.
    """

    def __init__(self) -> None:
        self.epoch_number = 0
        self.next_batch = 0
        self.plan = self.epoch(0)
        self.planner: ThreadPoolExecutor | None = None
        self.following: Future[Plan] | None = None
        """The plan of the next epoch, if a thread is already making it."""

    @abstractmethod
    def epoch(self, number: int) -> Plan:
        """The rows of each batch of an epoch; every row is in exactly one batch.

        The result must depend on `number` alone, because another thread may call this method while batches
        are fetched.
        """

    @abstractmethod
    def fetch(self, rows: NDArray[np.int64]) -> BatchType:
        """Make the batch of these rows."""

    @abstractmethod
    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        """Quantities that determine a batch's memory, such as its padded tokens, or rows × squared length."""

    @abstractmethod
    def content(self) -> Iterator[NDArray[Any]]:
        """Yield, part by part, all data that the batches are made from; `fingerprint` hashes these parts.

        The data must be the same in every epoch, because a thread may call this method at any time.
        """

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the data, which prevents a run from being resumed with a corpus that has changed."""
        digest = hashlib.sha256()
        for part in self.content():
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def __iter__(self) -> Iterator[BatchType]:
        return self

    def __next__(self) -> BatchType:
        return self.fetch(self.take(1)[0])

    def take(self, count: int) -> Plan:
        """Advance by `count` batches, which may span epochs, and return the rows of each batch."""
        taken: Plan = []
        while len(taken) < count:
            if self.next_batch >= len(self.plan):
                self.begin_epoch(self.epoch_number + 1)
            part = self.plan[self.next_batch :][: count - len(taken)]
            self.next_batch += len(part)
            taken += part
            is_late = self.next_batch >= len(self.plan) // 2
            if is_late and self.planner is not None and self.following is None:
                self.following = self.planner.submit(self.epoch, self.epoch_number + 1)
        return taken

    def begin_epoch(self, number: int) -> None:
        plan = self.epoch(number) if self.following is None else self.following.result()
        self.epoch_number, self.next_batch, self.plan, self.following = number, 0, plan, None

    @contextmanager
    def planning_ahead(self) -> Iterator[None]:
        """Inside the block, a thread makes the next epoch's plan during the second half of each epoch.

        Training therefore need not wait while millions of rows are sorted, which takes seconds.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="epochs") as self.planner:
            try:
                yield
            finally:
                self.planner = self.following = None

    def largest(self) -> list[BatchType]:
        """The batches of the first epoch that may need the most memory: the largest by each of `sizes`."""
        plan = self.epoch(0)
        sizes = np.array([self.sizes(rows) for rows in plan])
        return [self.fetch(plan[number]) for number in dict.fromkeys(sizes.argmax(axis=0).tolist())]

    def one_pass(self, rank: int = 0, size: int = 1) -> Iterator[BatchType]:
        """Yield batches that contain every row once, for validation.

        The batches are dealt round-robin to `size` processes; the process with number `rank` gets its share.
        The position that training has reached does not change.
        """
        return map(self.fetch, self.epoch(0)[rank::size])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch_number, "next_batch": self.next_batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.following = None
        self.begin_epoch(state["epoch"])
        self.next_batch = state["next_batch"]
