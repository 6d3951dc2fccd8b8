"""Loading a trained model from a run's folder."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.opening import OpenedRun, open_run, require_plausible
from transformer.checkpoint.weights import load_model
from transformer.config import ModelConfig, Settings
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.hardware import choose_device
from transformer.model.build import build_model

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


def require_builder(settings: Settings, build: Build, path: str | Path) -> None:
    """Raise `CheckpointError` if a custom function built the run's model, but `build` is the default."""
    if settings.build is not None and build is build_model:
        raise CheckpointError(
            f"{path}: built by {settings.build}; pass --build {settings.build}, or `build` in Python"
        )


def load_run(
    path: str | Path, *, task: str, build: Build = build_model, head: Head = no_head, device: str = "auto"
) -> Pretrained:
    """Load a run's model. See `open_run`; `build` must be the function that built the model for training."""
    opened = open_run(path, task=task)
    require_builder(opened.settings, build, path)
    return load_opened(opened, build=build, head=head, device=device)


def load_opened(
    opened: OpenedRun, *, build: Build = build_model, head: Head = no_head, device: str = "auto"
) -> Pretrained:
    """Build the model of an opened run, and load its weights."""
    checkpoint, tokenizer, settings = opened
    if build is build_model:  # only a custom builder knows the sizes of its model
        require_plausible(settings.model, checkpoint)
    with torch.inference_mode(False):  # parameters created in inference mode cannot be trained or packed
        model = head(build(settings.model), settings)
        load_model(model, checkpoint)
        model = model.to(choose_device(device)).eval()
    return Pretrained(model, tokenizer, settings)
