"""Everything that an update depends on, to and from a checkpoint, so that a resumed run equals one without a
break: parameters, Adam's moments, random states, the position in the data and what was best so far."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer.checkpoint import (
    MODEL,
    OPTIMIZER,
    RANDOM,
    Run,
    load_model,
    read_state,
    read_tensors,
    unique_tensors,
    write_checkpoint,
)
from transformer.data.epochs import EpochBatches


@dataclass
class TrainingState:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: EpochBatches[Any]
    step: int = 0
    """Updates done."""
    best_loss: float = math.inf
    """The lowest validation loss so far."""

    def save(self, run: Run, *, tokenizer_hash: str, keep: int, is_best: bool) -> Path:
        """Write a checkpoint, mark it, and delete all but the `keep` newest and the best."""
        folder = run.checkpoint(self.step)
        write_checkpoint(
            folder,
            tensors={
                MODEL: unique_tensors(self.model),
                OPTIMIZER: self.optimizer_tensors(),
                RANDOM: random_states(),
            },
            state={
                "step": self.step,
                "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
                "batches": self.batches.state_dict(),
            },
            tokenizer_hash=tokenizer_hash,
        )
        if is_best:
            run.mark("best", folder)
        run.mark("last", folder)  # at the end: what `last` names knows of the same best as `best`
        run.keep_newest(keep)
        return folder

    def load(self, folder: Path) -> None:
        load_model(self.model, folder)
        self.load_optimizer(read_tensors(folder / OPTIMIZER))
        set_random_states(read_tensors(folder / RANDOM))
        state = read_state(folder)
        self.step = state["step"]
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]  # JSON has no ∞
        self.batches.load_state_dict(state["batches"])

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Adam's state by parameter name: `NAME.exp_avg` and so on."""
        return {
            f"{name}.{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }

    def load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        names = [name for name, _ in self.model.named_parameters()]
        by_parameter: dict[int, dict[str, Any]] = {}
        for full_name, value in tensors.items():
            name, _, key = full_name.rpartition(".")
            by_parameter.setdefault(names.index(name), {})[key] = value
        self.optimizer.load_state_dict(
            {"state": by_parameter, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )


def random_states() -> dict[str, Tensor]:
    """The generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        states[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in states:
            torch.cuda.set_rng_state(states[f"cuda:{index}"], index)
