"""Training objectives. They compute the loss of a batch, summed over its tokens, and the number of tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import Precision
from transformer.hardware import autocast

CrossEntropy = Callable[..., Tensor]
"""`smoothed_cross_entropy` or an equivalent function."""


class Loss(NamedTuple):
    """The loss of a batch. `total` is a sum, so that losses can be added and then divided by all tokens."""

    total: Float[Tensor, ""]
    tokens: int


def smoothed_cross_entropy(
    logits: Float[Tensor, "*positions vocabulary"],
    labels: Int[Tensor, "*positions"],
    *,
    label_smoothing: float,
    pad_id: int,
) -> Float[Tensor, ""]:
    """Compute the cross-entropy with label smoothing (§5.4), summed over real tokens, in at least float32.

    The target distribution has 1 - ε on the label, plus ε/V on every token of the vocabulary. Training uses
    `overwriting_cross_entropy` (`kernels/loss.py`), which computes the same value in less time and memory.
    """
    logits = at_least_float32(logits).flatten(0, -2)
    return F.cross_entropy(
        logits, labels.flatten(), ignore_index=pad_id, label_smoothing=label_smoothing, reduction="sum"
    )


def at_least_float32(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@runtime_checkable
class Objective(Protocol):
    """The loss of a batch: a function, or an object that holds hyperparameters such as ε."""

    def __call__(self, model: nn.Module, batch: Any) -> Loss: ...


@runtime_checkable
class ScheduledObjective(Objective, Protocol):
    """An objective that changes during training."""

    def at(self, step: int) -> Objective:
        """Return the objective of update `step`, which counts from 1."""


def objective_at(objective: Objective, step: int) -> Objective:
    """Return `objective.at(step)` or, if `objective` has no method `at`, `objective` itself."""
    return objective.at(step) if isinstance(objective, ScheduledObjective) else objective


class CompiledObjective:
    """An objective compiled by torch.compile, for batches of any shape.

    Model and loss are compiled as one graph, so that the compiler can fuse the loss with its gradient.
    """

    def __init__(self, objective: Objective, compute: Callable[..., Loss] | None = None) -> None:
        self.objective = objective
        self.compute = compute or torch.compile(call, dynamic=True)

    def __call__(self, model: nn.Module, batch: Any) -> Loss:
        return self.compute(self.objective, model, batch)

    def at(self, step: int) -> "CompiledObjective":
        return CompiledObjective(objective_at(self.objective, step), self.compute)


def call(objective: Objective, model: nn.Module, batch: Any) -> Loss:
    return objective(model, batch)


def in_precision(objective: Objective, device: torch.device, precision: Precision) -> Objective:
    """Return a version of `objective` whose forward pass computes matrix products in `precision`.

    Autocast does not cache the weights that it casts. Each weight is used only once, so a cache would save no
    time. Moreover, a process that gathers the weights of one layer at a time (FSDP) has no memory for copies
    of all weights.

    The backward pass runs outside autocast. It computes each gradient in the dtype of its tensor, so values
    that an objective keeps in float32 have float32 gradients.
    """

    def compute(model: nn.Module, batch: Any) -> Loss:
        with autocast(device, precision, keeps_casts=False):
            return objective(model, batch)

    return compute


@dataclass(frozen=True)
class TokenLoss:
    """Base class of losses for predicting tokens, with label smoothing ε (§5.4), which is 0 in validation.

    Positions whose label is padding (`pad_id`) do not count.
    """

    label_smoothing: float
    pad_id: int = 0
    cross_entropy: CrossEntropy = smoothed_cross_entropy

    def total(
        self, logits: Float[Tensor, "*positions vocabulary"], labels: Int[Tensor, "*positions"]
    ) -> Float[Tensor, ""]:
        return self.cross_entropy(logits, labels, label_smoothing=self.label_smoothing, pad_id=self.pad_id)
