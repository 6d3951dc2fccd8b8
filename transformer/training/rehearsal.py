"""A training tried out before it begins: does it fit, how fast is it, when will it be done."""

import sys
import time
from importlib import import_module
from typing import Any, NamedTuple

import torch

from transformer.config import Precision, Settings
from transformer.training.loop import (
    accumulate_gradients,
    clip_gradients,
    naming_what_is_too_large,
    set_learning_rate,
    take_step,
)
from transformer.training.objectives import Objective, in_precision, objective_at
from transformer.training.schedule import learning_rate
from transformer.training.state import TrainingState, seed_update
from transformer.training.updates import describe

UPDATES = 10
"""Updates of ordinary batches that are timed."""


class Rehearsal(NamedTuple):
    """What a few updates tell about a whole training."""

    parameters: int
    largest: str
    """The largest batches of an epoch: of most tokens, and of the longest sentences."""
    peak_bytes: int | None
    """On a GPU what torch has had there at most; on a CPU what the whole process has, if the system tells."""
    tokens_per_second: float
    seconds_per_update: float
    seconds_left: float
    """For all updates, without validation."""


def rehearse(
    state: TrainingState, settings: Settings, *, objective: Objective, precision: Precision
) -> Rehearsal:
    """Compute the largest batches, then a few updates; `state` is not worth keeping afterwards.

    `ValueError` if a batch is more than the memory holds.
    """
    training = settings.training
    model, optimizer = state.model.train(), state.optimizer
    device = next(model.parameters()).device
    forward = torch.compile(model, dynamic=True) if training.compile else model

    def compute(batches: list[Any]) -> int:
        state.step += 1
        set_learning_rate(optimizer, learning_rate(state.step, settings.model.d_model, training))
        seed_update(0, state.step, 0)
        current = in_precision(objective_at(objective, state.step), device, precision)
        with naming_what_is_too_large(batches):
            loss = accumulate_gradients(current, forward, batches)
            norm = clip_gradients(model, training.max_norm)
            take_step(optimizer, torch.isfinite(norm).float())
        return loss.tokens

    compute([next(state.batches).to(device)])  # Adam's moments are there from now on
    largest = [batch.to(device) for batch in state.batches.largest()]
    for batch in largest:
        compute([batch])
    wait_for(device)
    start, tokens = time.perf_counter(), 0
    for _ in range(UPDATES):
        tokens += compute([next(state.batches).to(device) for _ in range(training.accumulate)])
    wait_for(device)
    seconds = (time.perf_counter() - start) / UPDATES
    return Rehearsal(
        sum(parameter.numel() for parameter in model.parameters()),
        "; ".join(map(describe, largest)),
        peak_bytes(device),
        tokens / UPDATES / seconds,
        seconds,
        seconds * training.max_steps,
    )


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that was in use so far: of the GPU by torch, of a CPU by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        resource: Any = import_module("resource")
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
