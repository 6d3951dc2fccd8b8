"""The mean of a run's last checkpoints (§6.1: the last 5 for the base model, the last 20 for the big one)."""

from pathlib import Path

from torch import Tensor

from transformer.checkpoint import (
    MODEL,
    CheckpointError,
    Run,
    read_manifest,
    read_tensors,
    write_checkpoint,
)


def average_checkpoints(run: Run, count: int) -> Path:
    """Write the mean of the `count` newest checkpoints' weights as a checkpoint of its own."""
    steps = run.steps()
    if not 1 <= count <= len(steps):
        raise CheckpointError(
            f"{run.path} has {len(steps)} checkpoints, so the last {count} cannot be averaged; "
            "training.keep and training.save_every say how many a run keeps"
        )
    chosen = steps[-count:]
    sums: dict[str, Tensor] = {}
    for step in chosen:
        folder = run.checkpoint(step)
        manifest = read_manifest(folder)
        for name, tensor in read_tensors(folder / MODEL).items():
            sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
    folder = run.checkpoints / f"average-{chosen[0]:08d}-{chosen[-1]:08d}-of-{count}"
    write_checkpoint(
        folder,
        tensors={MODEL: {name: (total / count).float() for name, total in sums.items()}},
        state={"averaged": chosen},
        tokenizer_hash=manifest["tokenizer"],
    )
    return folder
