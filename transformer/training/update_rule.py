"""How a model is updated: its optimizers, their learning rate schedule, and their state in checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from transformer.checkpoint.format import STATE, CheckpointError, with_current_names
from transformer.checkpoint.parts import divided_as, is_divided
from transformer.checkpoint.reading import is_figure
from transformer.checkpoint.weights import read_tensors, require_finite_floats
from transformer.config import Settings
from transformer.training.optimizer import MakeOptimizer, make_optimizers, take_step
from transformer.training.schedule import learning_rate

Schedule = Callable[[int], float]
"""The learning rate of update `step`, which counts from 1."""

ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")
"""The names of the values that Adam keeps for each parameter."""
EARLY_VALUES: dict[str, Any] = {"classes": ["AdamW"], "numbers": {}, "groups": [{}]}
"""Used for early checkpoints, which do not store the result of `UpdateRule.values`."""


class UpdateRule:
    """The optimizers of a model, and the schedule of their learning rate.

    The schedule gives the rate of the first optimizer. If a parameter group has another initial `lr`, the
    ratio of the two rates stays the same throughout training.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], schedule: Schedule
    ) -> None:
        own = own_rate(optimizers[0])
        self.optimizers = optimizers
        self.schedule = schedule
        self.parameters = dict(model.named_parameters())
        trained = {id(parameter) for group in self.groups() for parameter in group["params"]}
        self.left_out = [value for value in self.parameters.values() if id(value) not in trained]
        self.factors = [float(group["lr"]) / own for group in self.groups()]
        self.initial = [numbers_of(group) for group in self.groups()]

    def groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_rate(self, step: int) -> float:
        """Set the learning rate for update `step`, and return it."""
        rate = self.schedule(step)
        for group, factor in zip(self.groups(), self.factors, strict=True):
            group["lr"] = rate * factor
        return rate

    def unscale(self, scaler: GradScaler) -> None:
        """Divide the gradients by the loss scale, if there is one.

        The gradients of parameters that belong to no optimizer are deleted, because the gradient norm must
        not include them.
        """
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)
        for parameter in self.left_out:
            parameter.grad = None

    def step(self, finite: Tensor) -> None:
        """Apply the update if `finite` is 1, and delete the gradients."""
        for optimizer in self.optimizers:
            take_step(optimizer, finite)
        for parameter in self.parameters.values():
            parameter.grad = None

    # The state in a checkpoint

    def state(self) -> dict[str, Any]:
        """Return the optimizers' state of all parameters, with keys such as `output.weight.exp_avg`."""
        states = {id(p): kept for optimizer in self.optimizers for p, kept in optimizer.state.items()}
        return {
            f"{name}.{key}": value
            for name, parameter in self.parameters.items()
            for key, value in states.get(id(parameter), {}).items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors in `state`."""
        return {name: value for name, value in self.state().items() if isinstance(value, Tensor)}

    def values(self) -> dict[str, Any]:
        """Return the numbers in `state`, and the parameter groups' settings that training has changed."""
        numbers = {name: value for name, value in self.state().items() if not isinstance(value, Tensor)}
        for name, value in numbers.items():
            if not isinstance(value, int | float | None):
                raise ValueError(
                    f"the optimizer keeps a {type(value).__name__} as {name}; a checkpoint can hold only its "
                    "tensors and numbers"
                )
        changed = [
            {key: value for key, value in numbers_of(group).items() if value != before.get(key)}
            for group, before in zip(self.groups(), self.initial, strict=True)
        ]
        return {"classes": self.classes(), "numbers": numbers, "groups": changed}

    def load(self, path: Path, values: Any) -> None:
        """Load the state: the tensors from the file `path`, and everything else from `values`.

        Raises `CheckpointError` if the state belongs to another model or another optimizer.
        """
        values = EARLY_VALUES if values is None else values
        if not is_well_formed(values):
            raise CheckpointError(f"{path.with_name(STATE)}: not the state of a training run")
        if values["classes"] != self.classes():
            before, now = (" and ".join(classes) for classes in (values["classes"], self.classes()))
            raise CheckpointError(f"{path}: trained with {before}, not {now}; resume with the same optimizer")
        if (number := len(values["groups"])) != len(self.groups()):
            raise CheckpointError(
                f"{path}: trained with {number} groups of parameters, not {len(self.groups())}; "
                "resume with the same optimizer"
            )
        stored = self.read(path, values["numbers"])
        for optimizer in self.optimizers:
            self.load_state(optimizer, stored, path)
        for group, changed in zip(self.groups(), values["groups"], strict=True):
            group |= {key: value for key, value in changed.items() if key in numbers_of(group)}

    def classes(self) -> list[str]:
        return [type(optimizer).__name__ for optimizer in self.optimizers]

    def read(self, path: Path, numbers: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the stored state by parameter name; parameters without stored state are left out."""
        tensors = read_tensors(path)
        keys = {name.rpartition(".")[2] for name in tensors}
        tensors = with_current_names(tensors, [f"{name}.{key}" for name in self.parameters for key in keys])
        stored: dict[str, dict[str, Any]] = {}
        for full_name, value in (tensors | numbers).items():
            name, _, key = full_name.rpartition(".")
            if name not in self.parameters:
                raise CheckpointError(
                    f"{path}: has the unexpected {full_name}; the model was built differently"
                )
            stored.setdefault(name, {})[key] = value
        return stored

    def load_state(
        self, optimizer: torch.optim.Optimizer, stored: dict[str, dict[str, Any]], path: Path
    ) -> None:
        """Give `optimizer` the state that is stored for its parameters."""
        name_of = {id(parameter): name for name, parameter in self.parameters.items()}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        names = [name_of[id(parameter)] for parameter in parameters]
        own = {number: stored[name] for number, name in enumerate(names) if name in stored}
        if isinstance(optimizer, torch.optim.Adam):  # AdamW is a subclass
            if not own:
                raise CheckpointError(f"{path}: holds nothing for this optimizer")
            for number, kept in own.items():
                require_adams(kept, names[number], parameters[number], path)
        parts = {
            number: {key: part_of(value, parameters[number], path) for key, value in kept.items()}
            for number, kept in own.items()
        }
        optimizer.load_state_dict({"state": parts, "param_groups": optimizer.state_dict()["param_groups"]})
        for number, kept in parts.items():
            loaded = optimizer.state[parameters[number]]
            for key, value in kept.items():
                if isinstance(value, Tensor) and loaded[key].dtype != value.dtype:
                    loaded[key] = value.to(loaded[key].device)  # undoes torch's cast to the parameter's dtype


def part_of(value: Any, parameter: Tensor, path: Path) -> Any:
    """Return this process's part of `value`, which belongs to the optimizer state of `parameter`.

    If `value` is a number, or if `parameter` is not divided among processes, the part is the whole `value`.
    Raises `CheckpointError` if the shapes of `value` and `parameter` differ, because it is then unknown how
    to divide `value`.
    """
    if not isinstance(value, Tensor) or not is_divided(parameter) or value.dim() == 0:
        return value
    if value.shape != parameter.shape:
        raise CheckpointError(
            f"{path}: holds a tensor of shape {tuple(value.shape)} for a parameter of shape "
            f"{tuple(parameter.shape)}; only tensors of the parameter's shape can be divided among the "
            "processes, so set training.parallel to ddp"
        )
    return divided_as(parameter, value)


def require_adams(kept: dict[str, Any], name: str, parameter: Tensor, path: Path) -> None:
    """Raise `CheckpointError` if Adam cannot have written this state of the parameter `name`."""
    tensors = {key: value for key, value in kept.items() if isinstance(value, Tensor) and key in ADAM_STATE}
    if len(tensors) < len(ADAM_STATE):
        raise CheckpointError(f"{path}: lacks a part of the state of {name}")
    for key, value in tensors.items():
        if value.shape != (() if key == "step" else parameter.shape):
            raise CheckpointError(
                f"{path}: {name}.{key} has shape {tuple(value.shape)}, but the parameter has "
                f"{tuple(parameter.shape)}"
            )
        require_finite_floats({f"{name}.{key}": value}, path)
        if key != "exp_avg" and bool((value < 0).any()):
            raise CheckpointError(f"{path}: {name}.{key} has negative values; the file is damaged")


def make_update_rule(
    model: nn.Module,
    settings: Settings,
    make: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
) -> UpdateRule:
    """Combine the optimizers that `make` returns with `schedule`; if either is None, the settings decide.

    If `make` is given and `training.learning_rate` is null, the peak of the settings' schedule is the `lr` of
    the first optimizer.
    """
    training = settings.training
    optimizers = make_optimizers(model, training, make)
    if make is not None and training.learning_rate is None:
        training = replace(training, learning_rate=own_rate(optimizers[0]))
    of_settings = partial(learning_rate, d_model=settings.model.d_model, settings=training)
    return UpdateRule(model, optimizers, schedule or of_settings)


def own_rate(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate that an optimizer was made with."""
    rate = float(optimizer.defaults["lr"])
    if not rate > 0:
        raise ValueError(f"the optimizer's lr is {rate:g}; it must be greater than 0")
    return rate


def numbers_of(group: dict[str, Any]) -> dict[str, int | float]:
    """Return the numbers among a group's settings, except the learning rate, which the schedule sets."""
    return {key: value for key, value in group.items() if isinstance(value, int | float) and key != "lr"}


def is_well_formed(values: Any) -> bool:
    """Whether `UpdateRule.values` can have returned these values."""
    kinds = {"classes": (list, str), "numbers": (dict, str), "groups": (list, dict)}
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        return False
    for name, (outer, inner) in kinds.items():
        if not isinstance(values[name], outer) or not all(isinstance(item, inner) for item in values[name]):
            return False
    changed = [number for group in values["groups"] for number in group.values()]
    kept = [number for number in values["numbers"].values() if number is not None]
    return all(isinstance(number, float) or is_figure(number) for number in changed + kept)
