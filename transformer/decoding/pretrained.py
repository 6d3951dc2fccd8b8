"""A trained model as a run's folder keeps it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from transformer.checkpoint import CheckpointError, find_run, load_model, read_manifest
from transformer.config import Kind, ModelConfig, Settings
from transformer.data.tokenizer import Tokenizer, load_tokenizer
from transformer.hardware import choose_device
from transformer.model.build import build_model
from transformer.settings.files import load_settings


class Pretrained(NamedTuple):
    """A model in evaluation mode, with what it was trained with."""

    model: nn.Module
    tokenizer: Tokenizer
    settings: Settings


def load_pretrained(
    path: str | Path,
    *,
    kind: Kind,
    build: Callable[[ModelConfig], nn.Module] = build_model,
    device: str = "auto",
) -> Pretrained:
    """Load a run's folder (its best checkpoint) or one checkpoint of it, if the model is of this `kind`."""
    run, checkpoint = find_run(path)
    settings = load_settings(run.config)
    if settings.model.kind != kind:
        raise CheckpointError(f"{path}: its model is {settings.model.kind}; {kind} is needed here")
    tokenizer = load_tokenizer(run.tokenizer)
    if read_manifest(checkpoint)["tokenizer"] != tokenizer.digest:
        raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {checkpoint} was trained with")
    model = build(settings.model)
    load_model(model, checkpoint)
    return Pretrained(model.to(choose_device(device)).eval(), tokenizer, settings)
