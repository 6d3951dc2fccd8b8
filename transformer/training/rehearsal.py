"""The dry run: whether a training fits into memory, how fast it is and how long it will take."""

import sys
import time
from importlib import import_module
from typing import Any, NamedTuple

import torch

from transformer.config import Precision, Settings
from transformer.hardware import wait_for
from transformer.training.loop import (
    accumulate_gradients,
    clip_gradients,
    naming_what_is_too_large,
)
from transformer.training.objectives import Objective, in_precision, objective_at
from transformer.training.state import TrainingState, seed_update
from transformer.training.updates import shapes_of

UPDATES = 10
"""Number of updates with ordinary batches that are timed."""


class Rehearsal(NamedTuple):
    """The measurements of a dry run."""

    parameters: int
    largest: str
    """The largest batches of an epoch: the one with most tokens and the one with the longest sentences."""
    peak_bytes: int | None
    """Peak memory: of torch on a GPU; of the whole process on a CPU, `None` if the system does not say."""
    tokens_per_second: float
    seconds_per_update: float
    seconds_left: float
    """Estimate for all updates, without validation."""


def rehearse(
    state: TrainingState, settings: Settings, *, objective: Objective, precision: Precision
) -> Rehearsal:
    """Compute the largest batches, then time a few updates. This changes `state`: discard it afterwards.

    `ValueError` if a batch does not fit into memory.
    """
    training = settings.training
    model = state.model.train()
    device = next(model.parameters()).device
    forward = torch.compile(model, dynamic=True) if training.compile else model

    def compute(batches: list[Any]) -> int:
        state.step += 1
        state.update_rule.set_rate(state.step)
        seed_update(0, state.step, 0)
        current = in_precision(objective_at(objective, state.step), device, precision)
        with naming_what_is_too_large(batches):
            loss = accumulate_gradients(current, forward, batches, scaler=state.scaler)
            state.update_rule.unscale(state.scaler)
            norm = clip_gradients(model, training.max_norm)
            state.update_rule.step(torch.isfinite(norm).float())
            state.scaler.update()
        return loss.tokens

    compute([next(state.batches).to(device)])  # allocates Adam's moments, which belong to the peak
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
        "; ".join(map(shapes_of, largest)),
        peak_bytes(device),
        tokens / UPDATES / seconds,
        seconds,
        seconds * training.max_steps,
    )


def peak_bytes(device: torch.device) -> int | None:
    """The peak memory so far: torch's on a GPU, the process's on a CPU."""
    if device.type == "mps":
        return None  # it counts no peak
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    try:
        resource: Any = import_module("resource")
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
