"""A trained model as a run's folder keeps it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from transformer.checkpoint import CheckpointError, find_run, load_model, read_manifest
from transformer.config import ModelConfig, Settings, TaskName
from transformer.data.tokenizer import Tokenizer, load_tokenizer
from transformer.hardware import choose_device
from transformer.model.build import build_model
from transformer.model.heads import with_head
from transformer.settings.files import load_settings


class Pretrained(NamedTuple):
    """A model in evaluation mode, with what it was trained with."""

    model: nn.Module
    tokenizer: Tokenizer
    settings: Settings


def load_pretrained(
    path: str | Path,
    *,
    task: TaskName,
    build: Callable[[ModelConfig], nn.Module] = build_model,
    device: str = "auto",
) -> Pretrained:
    """Load a run's folder (its best checkpoint) or one checkpoint of it, if it was trained for this `task`.

    `build` is what it was trained with; an encoder gets the head of its task.
    """
    run, checkpoint = find_run(path)
    settings = load_settings(run.config)
    if settings.trained_task != task:
        raise CheckpointError(f"{path}: trained for {settings.trained_task}; {task} is needed here")
    tokenizer = load_tokenizer(run.tokenizer)
    if read_manifest(checkpoint)["tokenizer"] != tokenizer.digest:
        raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {checkpoint} was trained with")
    model = with_head(build(settings.model), settings)
    load_model(model, checkpoint)
    return Pretrained(model.to(choose_device(device)).eval(), tokenizer, settings)
