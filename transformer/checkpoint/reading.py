"""Reading checkpoints: hashes are checked first, then names and shapes, and only then are weights loaded."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from transformer.checkpoint.format import (
    MANIFEST,
    MODEL,
    READABLE_VERSIONS,
    STATE,
    CheckpointError,
    with_current_names,
)


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path, *, unread: Collection[str] = ()) -> dict[str, Any]:
    """The manifest of a checkpoint, after checking the hashes of all files except those in `unread`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
        if version in READABLE_VERSIONS:  # other versions may have other keys
            files, _ = dict(manifest["files"]), manifest["tokenizer"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST}; the checkpoint is damaged") from error
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise CheckpointError(
            f"{folder}: format version {version}, but this version of the program reads {readable}"
        )
    for name, expected in {MODEL: None, STATE: None, **files}.items():
        path = folder / name
        is_there = Path(name).name == name and path.is_file()
        if not is_there or (name not in unread and file_hash(path) != expected):
            raise CheckpointError(f"{path}: missing or damaged, its hash is not the one in {MANIFEST}")
    return manifest


def read_state(folder: Path) -> dict[str, Any]:
    """The `state` that was given to `write_checkpoint`; its contents are not checked."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if isinstance(state, dict):
            return state
    except (OSError, ValueError, RecursionError):
        pass
    raise CheckpointError(f"{folder / STATE}: cannot be read, or is no JSON object")


def read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model by name; a tied tensor appears once, under the first of its names."""
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        unique.setdefault(id(tensor), (name, tensor))
    return dict(unique.values())


def require_matching(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """`CheckpointError` unless a checkpoint's weights have the names and shapes of `model`; loads none."""
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
        ("has the unknown", shapes.keys() - expected.keys()),
    ):
        if differing:
            raise CheckpointError(
                f"{path}: {problem} {part}{min(differing)} ({len(differing)} such); "
                "the model was built another way"
            )
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise CheckpointError(
                f"{path}: {part}{name} has shape {shapes[name]}, but the model's is {tuple(tensor.shape)}"
            )


def load_model(model: nn.Module, folder: Path, *, part: str = "") -> None:
    """Copy a checkpoint's weights into `model`, after checking names and shapes.

    With a `part` such as `encoder.`, `model` is that part of the model that was saved.
    """
    require_matching(model, folder, part=part)
    stored = read_tensors(folder / MODEL)
    own = {name.removeprefix(part): value for name, value in stored.items() if name.startswith(part)}
    parameters = unique_tensors(model)
    weights = with_current_names(own, parameters)
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(weights[name])
