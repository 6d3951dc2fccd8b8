"""The training state that a checkpoint stores: enough for a resumed run to equal an uninterrupted one.

The state consists of the parameters, the optimizers' state (Adam's moments), the position in the data and the
best validation so far. The state of the random generator is not stored, because each update seeds the
generator.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from transformer.checkpoint.format import MODEL, OPTIMIZER, STATE, CheckpointError
from transformer.checkpoint.parts import whole
from transformer.checkpoint.reading import is_figure, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.shards import write_shards
from transformer.checkpoint.weights import load_model, unique_tensors
from transformer.checkpoint.writing import WriteFile, write_checkpoint_files, write_hashed
from transformer.data.epochs import EpochBatches
from transformer.training.distributed import Group
from transformer.training.finite import require_finite
from transformer.training.update_rule import UpdateRule


@dataclass
class TrainingState:
    model: nn.Module
    update_rule: UpdateRule
    batches: EpochBatches[Any]
    step: int = 0
    """Number of updates done."""
    position: dict[str, int] | None = None
    """The data position after `step` updates; None at the start. The position of `batches` may be further on,
    because `batches` prefetches."""
    best: float | None = None
    """The best value so far of the metric that `training.best_metric` names."""
    lower_is_better: bool = True
    """Whether lower values of that metric are better."""
    stale: int = 0
    """Number of validations since the best one."""
    seconds: float = 0.0
    """Time spent on training, without pauses and without updates lost to an interruption."""
    scaler: GradScaler = field(default_factory=lambda: GradScaler(enabled=False))
    """Scales the loss in float16; a no-op in other precisions."""

    def is_better(self, value: float) -> bool:
        """Record the result of a validation, and return whether it is the best so far."""
        is_lower = self.best is None or value < self.best
        is_higher = self.best is None or value > self.best
        improves = math.isfinite(value) and (is_lower if self.lower_is_better else is_higher)
        self.best, self.stale = (value, 0) if improves else (self.best, self.stale + 1)
        return improves

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of a checkpoint, by the name of their file."""
        return {MODEL: unique_tensors(self.model), OPTIMIZER: self.update_rule.tensors()}

    def values(self) -> dict[str, Any]:
        """Return everything else that a checkpoint contains, except the text's fingerprint."""
        return {
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "seconds": round(self.seconds, 1),
            "batches": self.position or self.batches.state_dict(),
            "optimizer": self.update_rule.values(),
            "scaler": self.scaler.state_dict(),
        }

    def snapshot(self, *, keep: bool = True) -> "Snapshot":
        """Copy the state to host memory, so that training can continue while the copy is written to disk.

        If the model is split among processes, all processes must call this method, but only the processes
        that pass `keep=True` get the tensors. Raises `DivergedError` if a parameter is not finite.
        """
        require_finite(self.model, self.step)
        copies = {name: host_copies(tensors, keep=keep) for name, tensors in self.tensors().items()}
        device = next(self.model.parameters()).device
        copied = None if device.type == "cpu" else torch.Event(device)
        if copied is not None:
            copied.record()
        files = {name: partial(write_hashed, tensors) for name, tensors in copies.items()}
        return Snapshot(files, self.values(), self.batches, copied)

    def sharded_snapshot(self, folder: Path, group: Group) -> "Snapshot":
        """Copy the state of a split model to disk: each process writes its own parts to `folder`.

        All processes must call this method; training can continue while one process merges the parts in
        `Snapshot.save`. Raises `DivergedError` if a parameter is not finite. Raises `OSError` if a process
        cannot write.
        """
        require_finite(self.model, self.step)
        files = {
            name: write_shards(tensors, folder / name, group.untimed)
            for name, tensors in self.tensors().items()
        }
        return Snapshot(files, self.values(), self.batches, None)

    def load(self, folder: Path) -> None:
        """Load the checkpoint in `folder`.

        Raises `CheckpointError` if the checkpoint belongs to another model or another training text.
        """
        state = read_state(folder)
        require_well_formed(state, folder)
        if state.get("text", self.batches.fingerprint) != self.batches.fingerprint:
            raise CheckpointError(
                f"{folder}: the training text has changed since; --resume needs the same text; to train on "
                "the new text, choose another --output, where training.start_from can use these weights"
            )
        load_model(self.model, folder)
        self.update_rule.load(folder / OPTIMIZER, state.get("optimizer"))
        self.step = state["step"]
        self.best = state.get("best", state.get("best_loss"))  # early checkpoints call it `best_loss`
        self.stale, self.seconds = state.get("stale", 0), state.get("seconds", 0.0)
        self.position = state["batches"]
        if state.get("scaler") and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.batches.load_state_dict(self.position)


@dataclass(frozen=True)
class Snapshot:
    """A copy of the training state after an update. Later updates do not change it."""

    files: Mapping[str, WriteFile]
    """Functions that write the parameters and the optimizers' tensors, by the name of the file."""
    values: dict[str, Any]
    batches: EpochBatches[Any]
    """The batches, for the text's fingerprint. `save` computes the fingerprint in the writer's thread,
    because hashing may take seconds."""
    copied: torch.Event | None
    """On a GPU, the event that marks the end of the copying into host memory; otherwise None."""

    @property
    def step(self) -> int:
        return self.values["step"]

    def save(self, run: Run, *, tokenizer_hash: str, keep: int, is_best: bool) -> None:
        """Write and mark a checkpoint; then delete all checkpoints except the `keep` newest and the best."""
        if self.copied is not None:
            self.copied.synchronize()
        folder = run.checkpoint(self.step)
        write_checkpoint_files(
            folder,
            files=self.files,
            state={**self.values, "text": self.batches.fingerprint},
            tokenizer_hash=tokenizer_hash,
        )
        if is_best:
            run.mark("best", folder)
        run.mark("last", folder)  # after `best`: a crash in between must not leave `last` ahead of `best`
        run.keep_newest(keep)


def host_copies(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Copy tensors to host memory. Copies from a CUDA GPU are queued, so the CPU need not wait for the GPU.

    For copies from a GPU, torch allocates pinned memory, and reuses it for the next snapshot. Tensors that
    are split among processes are gathered one at a time, so all processes must call this function. Only the
    processes that pass `keep=True` get the copies.
    """
    copies = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor.detach())
        if keep:
            copies[name] = gathered.to("cpu", non_blocking=tensor.is_cuda, copy=True)
    return copies


def require_well_formed(state: dict[str, Any], folder: Path) -> None:
    """Raise `CheckpointError` for values that no training run can have written."""
    counts = [state.get("step"), state.get("stale", 0)]
    position = state.get("batches")
    if isinstance(position, dict):
        counts += [position.get("epoch"), position.get("next_batch")]
    figures = [state.get("best", state.get("best_loss")), state.get("seconds", 0.0)]
    if (
        not isinstance(position, dict)
        or not all(type(number) is int and 0 <= number < 2**63 for number in counts)
        or not all(number is None or is_figure(number) for number in figures)
        or not is_scaler(state.get("scaler", {}))
    ):
        raise CheckpointError(f"{folder / STATE}: not the state of a training run")


def is_scaler(state: Any) -> bool:
    """Whether `state` is a valid state of a `GradScaler`; without float16, the state is empty."""
    expected = GradScaler("cpu").state_dict() if state else {}
    return (
        isinstance(state, dict)
        and state.keys() == expected.keys()
        and all(is_figure(value) and value >= 0 for value in state.values())
    )


def seed_update(seed: int, step: int, rank: int) -> None:
    """Seed torch for an update, so that its dropout depends only on these three arguments."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big"))
