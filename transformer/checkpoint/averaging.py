"""Checkpoint averaging (§6.1: the last 5 checkpoints for the base model, the last 20 for the big one)."""

import math
from pathlib import Path

import torch
from torch import Tensor

from transformer.checkpoint.format import MODEL, STATE, CheckpointError, with_current_names
from transformer.checkpoint.reading import is_figure, read_manifest, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors, require_finite_floats
from transformer.checkpoint.writing import write_checkpoint


def average_checkpoints(run: Run, count: int, *, minutes: float = 0.0) -> Path:
    """Write the mean of the weights of the `count` newest checkpoints as a new checkpoint.

    If `minutes` is given (10 in the paper), some checkpoints are skipped, so that at least this many minutes
    of training lie between any two of the averaged checkpoints.
    """
    if not 0 <= minutes < math.inf:
        raise CheckpointError(f"{minutes:g} minutes between checkpoints; the time must be 0 or more")
    while True:
        before = run.steps()
        try:
            chosen = newest(run, count, minutes)
            weights, tokenizer_hash = mean_weights(run, chosen)
        except (CheckpointError, OSError):
            if set(before) <= set(run.steps()):
                raise
            continue  # the run is still being trained and has just deleted a checkpoint
        break
    folder = run.checkpoints / f"average-{chosen[0]:08d}-{chosen[-1]:08d}-of-{count}"
    write_checkpoint(
        folder, tensors={MODEL: weights}, state={"averaged": chosen}, tokenizer_hash=tokenizer_hash
    )
    return folder


def newest(run: Run, count: int, minutes: float) -> list[int]:
    steps = spaced(run, minutes)
    if not 1 <= count <= len(steps):
        apart = f" with {minutes:g} minutes between them" if minutes else ""
        raise CheckpointError(
            f"{run.path} has {len(steps)} checkpoints{apart}, so the last {count} cannot be averaged; "
            "training.keep, training.save_every and training.save_minutes decide how many a run keeps"
        )
    return steps[-count:]


def mean_weights(run: Run, chosen: list[int]) -> tuple[dict[str, Tensor], str]:
    """Return the mean of the weights saved after the updates `chosen`, and the hash of their tokenizer.

    Tensors of a custom model that are not floats, such as counters, are taken from the newest checkpoint.
    """
    sums: dict[str, Tensor] = {}
    for step in chosen:
        folder = run.checkpoint(step)
        manifest = read_manifest(folder)
        stored = read_tensors(folder / MODEL)
        others = {name: tensor for name, tensor in stored.items() if is_whole(tensor)}
        floats = {name: tensor for name, tensor in stored.items() if name not in others}
        require_finite_floats(floats, folder / MODEL)
        tensors = {name: tensor.double() for name, tensor in floats.items()}
        if step == chosen[0]:
            sums = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
        # A resumed run may have checkpoints of format 1, which has older weight names, and of format 2.
        sums = with_current_names(sums, tensors)
        if shapes(tensors) != shapes(sums):
            raise CheckpointError(
                f"{folder}: its weights differ in name or shape from those of update {chosen[0]}"
            )
        sums = {name: total + tensors[name] for name, total in sums.items()}
    means = {name: (total / len(chosen)).float() for name, total in sums.items()}
    return means | others, manifest["tokenizer"]


def is_whole(tensor: Tensor) -> bool:
    """Whether the tensor holds integers or booleans."""
    return not (tensor.is_floating_point() or tensor.is_complex())


def shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def spaced(run: Run, minutes: float) -> list[int]:
    """Return the step numbers of the checkpoints that may be averaged, in ascending order.

    Checkpoints are chosen backwards from the newest, at least `minutes` of training time apart. If `minutes`
    is 0, all checkpoints of the run may be averaged.
    """
    if not minutes:
        return run.steps()
    chosen: list[int] = []
    next_time = math.inf
    for step in reversed(run.steps()):
        seconds = read_state(run.checkpoint(step)).get("seconds", 0.0)
        if not is_figure(seconds):
            raise CheckpointError(f"{run.checkpoint(step) / STATE}: not the state of a training run")
        if seconds <= next_time - 60 * minutes:
            chosen.append(step)
            next_time = seconds
    return chosen[::-1]
