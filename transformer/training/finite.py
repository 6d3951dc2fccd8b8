"""Skipping updates whose loss or gradient is not finite, and stopping after too many in a row."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from transformer.checkpoint.parts import whole
from transformer.training.distributed import Group
from transformer.training.updates import Update, corpus_lines


class DivergedError(ValueError):
    """Training cannot continue; the message says what was not finite, where, and what to change."""


class FiniteGuard:
    """Decides whether each update is applied.

    Raises `DivergedError` after more than `limit` skips in a row.

    The decision is a tensor on the model's device. It is copied to the CPU in the background, because reading
    it at once would force a synchronization with the GPU. A bad update is therefore reported a few updates
    late, but it is never applied.
    """

    def __init__(self, limit: int, group: Group) -> None:
        self.limit = limit
        self.group = group
        self.in_row = 0
        self.unread: deque[tuple[int, Update, HostCopy]] = deque()

    def is_finite(self, step: int, update: Update, loss: Tensor, norm: Tensor) -> Tensor:
        """Return 1.0 if loss and gradient norm are finite in every process, else 0.0."""
        broken = (~torch.isfinite(loss + norm)).float()
        finite = (self.group.sum_tensor(broken) == 0).float()
        self.unread.append((step, update, HostCopy(finite)))
        return finite

    @property
    def is_full(self) -> bool:
        """Whether `read` must be called now: there are enough unread decisions to exceed the limit."""
        return len(self.unread) > self.limit

    def read(self, find_cause: Callable[[int, Update], str], *, but_newest: int = 0) -> list[int]:
        """Return the numbers of the updates that were skipped.

        The newest `but_newest` decisions stay unread, because a GPU may still be computing them. Raises
        `DivergedError` after too many skips in a row.
        """
        skipped = []
        while len(self.unread) > but_newest:
            step, update, finite = self.unread.popleft()
            self.in_row = 0 if finite.read() else self.in_row + 1
            if self.in_row:
                skipped.append(step)
            if self.in_row > self.limit:
                self.unread.clear()
                lines = "; ".join(filter(None, map(corpus_lines, update.batches)))
                where = find_cause(step, update) + (f" ({lines})" if lines else "")
                raise DivergedError(
                    f"update {step}: loss or gradient is not finite, as in the {self.limit} updates before. "
                    f"The first such value is in {where}. These updates were not applied. Check the data, or "
                    "lower training.learning_rate (training.rate_scale if that is null), raise "
                    "training.warmup_steps or set training.max_norm, then --resume"
                )
        return skipped


class HostCopy:
    """A number that is being copied from the device. `read` waits for the copy, but not for later work."""

    def __init__(self, number: Tensor) -> None:
        self.number = number.to("cpu", non_blocking=True)
        self.arrival = None if number.is_cpu else torch.Event(number.device)
        if self.arrival is not None:
            self.arrival.record()

    def read(self) -> float:
        if self.arrival is not None:
            self.arrival.synchronize()
        return float(self.number)


def first_not_finite(model: nn.Module, compute: Callable[[], object]) -> str:
    """Run `compute`, and name the first module whose output is not finite.

    If all outputs are finite, name the first parameter whose gradient is not finite.
    """
    with watched_outputs(model) as broken:
        compute()
    # Check the gradients even if an output is not finite. In a sharded model, all processes must gather the
    # gradients together, and the outputs of the other processes may be finite.
    gradients = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(whole(parameter.grad)).all())
    ]
    if broken:
        return f"the output of {broken[0]}"
    if gradients:
        return f"the gradient of {gradients[0]}"
    return "another process, or did not appear when the update was repeated"


@contextmanager
def watched_outputs(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of modules whose output is not finite, in the order in which the modules finish."""
    broken: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not all(bool(torch.isfinite(tensor).all()) for tensor in floating(output)):
                broken.append(name or "the model")

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        yield broken


def floating(output: Any) -> Iterable[Tensor]:
    """Return the floating-point tensors in a module's output."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, (tuple, list)):
        return [tensor for part in output for tensor in floating(part)]
    return []


def require_finite(model: nn.Module, step: int) -> None:
    """Raise `DivergedError` if a parameter is not finite, because such a model must not be saved."""
    norms = torch.stack([whole(parameter.detach().float().norm()) for parameter in model.parameters()])
    if math.isfinite(float(norms.sum())):
        return
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(whole(parameter.detach())).all()):
            raise DivergedError(f"update {step}: the parameter {name} is not finite; nothing was saved")
