"""Loading a checkpoint's weights, after checking their names, shapes and types."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from transformer.checkpoint.format import MODEL, CheckpointError, with_current_names
from transformer.checkpoint.parts import divided_as

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FLOAT_NAMES = "float32, bfloat16, float16 or float64"


def read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def require_finite_floats(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise `CheckpointError` unless the tensors have a dtype of `FLOATS` and no infinite or NaN values."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{path}: {name} holds {kind(tensor)}; weights are {FLOAT_NAMES}")
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointError(f"{path}: {name} has values that are not finite; the file is damaged")


def kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model by name; a tied tensor appears once, under the first of its names."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor))
    return dict(unique.values())


def require_matching(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """Raise `CheckpointError` unless a checkpoint's weights match `model` in names and shapes."""
    path = folder / MODEL
    expected = unique_tensors(model)
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(part)]  # noqa: SIM118
            stored = {name.removeprefix(part): tuple(file.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    shapes = with_current_names(stored, expected)
    for problem, differing in (
        ("lacks", expected.keys() - shapes.keys()),
        ("has the unexpected", shapes.keys() - expected.keys()),
    ):
        if differing:
            raise CheckpointError(
                f"{path}: {problem} {part}{min(differing)} ({len(differing)} such); "
                "the model was built differently"
            )
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise CheckpointError(
                f"{path}: {part}{name} has shape {shapes[name]}, but the model's is {tuple(tensor.shape)}"
            )


def load_model(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """Copy a checkpoint's weights into `model`, after checking names, shapes and types.

    If `part` is given, such as `encoder.`, `model` is only this part of the saved model, and only the weights
    whose names begin with `part` are loaded. Raises `CheckpointError` if a check fails, or if a
    floating-point parameter has infinite or NaN values. Other tensors, such as a custom model's buffers, may
    be of any type.
    """
    require_matching(model, folder, part=part)
    stored = read_tensors(folder / MODEL)
    own = {name.removeprefix(part): value for name, value in stored.items() if name.startswith(part)}
    parameters = unique_tensors(model)
    weights = with_current_names(own, parameters)
    with torch.no_grad():
        for name, tensor in parameters.items():
            if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
                require_finite_floats({part + name: weights[name]}, folder / MODEL)
            tensor.copy_(divided_as(tensor, weights[name]))
