"""Exchange of objects and barriers between processes that share work. A single process needs no torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

Found = TypeVar("Found")


class ProcessLostError(ValueError):
    """Another process has died or does not answer. The message has already been printed to standard error."""


@dataclass(frozen=True)
class Processes:
    """The processes that share some work, as seen from this process; by default there is only this one."""

    rank: int = 0
    size: int = 1
    untimed: Any = None
    """A `torch.distributed.ProcessGroup` for long waits. It has no timeout, but detects dead processes."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    def collect(self, share: list[Any]) -> list[Any]:
        """Gather the items of all processes, in their original order.

        The `share` of process r must hold the items with the indices r, r + `size`, r + 2 `size`, …. The
        items are pickled, which is safe between the processes of one training run.
        """
        if self.size == 1:
            return share
        from torch import distributed

        shares: list[list[Any]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(shares, share)
        items = [None] * sum(map(len, shares))
        for rank, part in enumerate(shares):
            items[rank :: self.size] = part
        return items

    def from_first(self, make: Callable[[], Found]) -> Found:
        """Call `make` in the first process only, and return its result in every process.

        If `make` raises a `ValueError` or `OSError`, every process raises it. There is no timeout.
        """
        if self.size == 1:
            return make()
        from torch import distributed

        found: list[Any] = [None, None]
        if self.is_first:
            try:
                found[0] = make()
            except (ValueError, OSError) as error:
                found[1] = error
        distributed.broadcast_object_list(found, src=0, group=self.untimed)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def require_equal(self, given: Mapping[str, Any]) -> None:
        """Raise the same `ValueError` in every process if the processes were given different values."""
        if self.size == 1:
            return
        from torch import distributed

        everyone: list[Any] = [None] * self.size
        own = {name: repr(value) for name, value in given.items()}
        distributed.all_gather_object(everyone, own, group=self.untimed)
        first = everyone[0]
        for rank, theirs in enumerate(everyone):
            for name in {**first, **theirs}:
                if first.get(name) != theirs.get(name):
                    raise ValueError(
                        f"process {rank} was given {name} {theirs.get(name)}, process 0 {name} "
                        f"{first.get(name)}; start all processes with the same values"
                    )

    def wait(self) -> None:
        """Wait at a barrier, without a timeout, because one process may be reading a large corpus."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier(group=self.untimed)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process run the block before the others, so that the others can read its files."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()
