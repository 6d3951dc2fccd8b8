"""The dry run: measures the memory and the speed of training, and estimates how long training takes."""

import sys
import time
from contextlib import closing
from importlib import import_module
from typing import Any, NamedTuple

import torch

from transformer.config import Precision, Settings
from transformer.hardware import wait_for
from transformer.training.distributed import ALONE
from transformer.training.finite import FiniteGuard
from transformer.training.loop import (
    accumulate_gradients,
    clip_gradients,
    naming_what_is_too_large,
)
from transformer.training.objectives import CompiledObjective, Objective, in_precision, objective_at
from transformer.training.state import TrainingState, seed_update
from transformer.training.updates import Update, shapes_of, updates

UPDATES = 10
"""The number of ordinary updates that are timed, after the largest batches were tried."""


class Rehearsal(NamedTuple):
    """The measurements of a dry run."""

    parameters: int
    largest: str
    """The shapes of the batches that may need the most memory, because of many tokens or long sentences."""
    peak_bytes: int | None
    """Peak memory of torch on a GPU, or of the whole process on a CPU; None if it is unknown."""
    tokens_per_second: float
    seconds_per_update: float
    seconds_left: float
    """The estimated time of all updates, without validation."""


def rehearse(
    state: TrainingState, settings: Settings, *, objective: Objective, precision: Precision
) -> Rehearsal:
    """Try updates with the largest batches, then time a few ordinary updates. This makes `state` unusable.

    The updates are computed as in `fit`. Their batches are already on the device, as if prefetched. The same
    updates are computed twice, and only the second pass is timed, because the first includes one-time work
    for each shape. Raises `ValueError` if a batch does not fit into memory.
    """
    training = settings.training
    model = state.model.train()
    device = next(model.parameters()).device
    computed = CompiledObjective(objective) if training.compile else objective
    guard = FiniteGuard(training.max_skipped, ALONE)

    def compute(update: Update) -> None:
        state.step += 1
        state.update_rule.set_rate(state.step)
        seed_update(0, state.step, 0)
        current = in_precision(objective_at(computed, state.step), device, precision)
        with naming_what_is_too_large(update.batches):
            loss = accumulate_gradients(current, model, update.batches, scaler=state.scaler)
            state.update_rule.unscale(state.scaler)
            norm = clip_gradients(model, training.max_norm)
            state.update_rule.step(guard.is_finite(state.step, update, loss.total, norm))
            state.scaler.update()

    with closing(updates(state.batches, training.accumulate, ALONE, device)) as upcoming:
        ordinary = [next(upcoming) for _ in range(UPDATES)]
    largest = [batch.to(device) for batch in state.batches.largest()]
    compute(ordinary[0])  # allocates Adam's moments, which count towards the peak
    for batch in largest:
        compute(Update([batch], {}))
    for update in ordinary:
        compute(update)
    wait_for(device)
    start = time.perf_counter()
    for update in ordinary:
        compute(update)
    wait_for(device)
    seconds = (time.perf_counter() - start) / UPDATES
    return Rehearsal(
        sum(parameter.numel() for parameter in model.parameters()),
        "; ".join(map(shapes_of, largest)),
        peak_bytes(device),
        sum(update.tokens for update in ordinary) / UPDATES / seconds,
        seconds,
        seconds * training.max_steps,
    )


def peak_bytes(device: torch.device) -> int | None:
    """Return the peak memory so far: of torch on a GPU, of the process on a CPU."""
    if device.type == "mps":
        return None  # torch does not record the peak on MPS
    if device.type != "cpu":
        return torch.accelerator.max_memory_allocated(device)
    try:
        resource: Any = import_module("resource")
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
