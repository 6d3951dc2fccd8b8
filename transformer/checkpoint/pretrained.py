"""Loading a trained model from a run's folder."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.hub import local_folder
from transformer.checkpoint.reading import load_model, read_manifest
from transformer.checkpoint.run import Run, find_run
from transformer.config import ModelConfig, Settings
from transformer.config.files import load_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.hardware import choose_device
from transformer.model.build import build_model
from transformer.tasks.registry import TASKS, is_custom

Build = Callable[[ModelConfig], nn.Module]
Head = Callable[[nn.Module, Settings], nn.Module]
"""Puts a task's head on the model that a `Build` returns."""


def no_head(model: nn.Module, settings: Settings) -> nn.Module:  # noqa: ARG001
    return model


class Pretrained(NamedTuple):
    """A model in evaluation mode, with the tokenizer and the settings that it was trained with."""

    model: nn.Module
    tokenizer: Tokenizer
    settings: Settings


class OpenedRun(NamedTuple):
    """A checkpoint with verified hashes, its tokenizer and its settings; the weights are not loaded yet."""

    checkpoint: Path
    tokenizer: Tokenizer
    settings: Settings


def find_pretrained(name: str | Path) -> tuple[Run, Path]:
    """The run and the checkpoint that `--run NAME` refers to; NAME is a local folder or a run's Hub id."""
    return find_run(local_folder(name))


def open_run(path: str | Path, *, task: str, build: Build = build_model) -> OpenedRun:
    """Open a checkpoint of a run that was trained for `task`.

    `path` is the folder of a checkpoint, the folder of a run, or the Hub id of a run; from a run, the best
    checkpoint is opened. A run of a custom task is also accepted if its model is of the kind (`model.kind`)
    that `task` needs.
    """
    run, checkpoint = find_pretrained(path)
    settings = load_settings(run.config)
    trained_task = settings.trained_task
    is_related = is_custom(trained_task) and TASKS[task].kind == settings.model.kind
    if trained_task != task and not is_related:
        raise CheckpointError(f"{path}: trained for {trained_task}; {task} is needed here")
    require_builder(settings, build, path)
    return open_checkpoint(run, checkpoint)


def require_builder(settings: Settings, build: Build, path: str | Path) -> None:
    """`CheckpointError` if a custom function built the run's model, but `build` is the package's own."""
    if settings.build is not None and build is build_model:
        raise CheckpointError(
            f"{path}: built by {settings.build}; pass --build {settings.build}, or `build` in Python"
        )


def open_checkpoint(run: Run, checkpoint: Path, *, unread: Collection[str] = (OPTIMIZER,)) -> OpenedRun:
    """Open a checkpoint of a run, verifying the hash of every file except those named in `unread`."""
    settings = load_settings(run.config)
    tokenizer = load_tokenizer(run.tokenizer)
    if read_manifest(checkpoint, unread=unread)["tokenizer"] != tokenizer.digest:
        raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {checkpoint} was trained with")
    return OpenedRun(checkpoint, tokenizer, settings)


def require_plausible(config: ModelConfig, checkpoint: Path) -> None:
    """`CheckpointError` if a model of `config` has more weights than the checkpoint's file has bytes.

    This rejects a `config.yaml` with absurd sizes before memory is allocated for such a model.
    """
    path = checkpoint / MODEL
    if config.num_weights > path.stat().st_size:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, but a model with the sizes in config.yaml has "
            f"{config.num_weights:,} weights; config.yaml does not describe the model that was trained"
        )


def load_run(
    path: str | Path, *, task: str, build: Build = build_model, head: Head = no_head, device: str = "auto"
) -> Pretrained:
    """Load a run's model; `build` must be the function that built it for training. See `open_run`."""
    return load_opened(open_run(path, task=task, build=build), build=build, head=head, device=device)


def load_opened(
    opened: OpenedRun, *, build: Build = build_model, head: Head = no_head, device: str = "auto"
) -> Pretrained:
    """The model of an opened run, with its weights."""
    checkpoint, tokenizer, settings = opened
    if build is build_model:  # only a custom builder knows the sizes of its model
        require_plausible(settings.model, checkpoint)
    with torch.inference_mode(False):  # parameters created in inference mode cannot be trained or packed
        model = head(build(settings.model), settings)
        load_model(model, checkpoint)
        model = model.to(choose_device(device)).eval()
    return Pretrained(model, tokenizer, settings)
