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
from transformer.config import ModelConfig, Settings, TaskName
from transformer.config.files import load_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.hardware import choose_device
from transformer.model.build import build_model
from transformer.model.heads import with_head


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
    """The run and the checkpoint that `--run NAME` refers to: a local folder, or a run on the Hub."""
    return find_run(local_folder(name))


def open_run(path: str | Path, *, task: TaskName) -> OpenedRun:
    """Open the best checkpoint of a run's folder or Hub id, or a given checkpoint, trained for `task`."""
    run, checkpoint = find_pretrained(path)
    trained_task = load_settings(run.config).trained_task
    if trained_task != task:
        raise CheckpointError(f"{path}: trained for {trained_task}; {task} is needed here")
    return open_checkpoint(run, checkpoint)


def open_checkpoint(run: Run, checkpoint: Path, *, unread: Collection[str] = (OPTIMIZER,)) -> OpenedRun:
    """Open a checkpoint of a run, verifying the hash of every file except those named in `unread`."""
    settings = load_settings(run.config)
    tokenizer = load_tokenizer(run.tokenizer)
    if read_manifest(checkpoint, unread=unread)["tokenizer"] != tokenizer.digest:
        raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {checkpoint} was trained with")
    return OpenedRun(checkpoint, tokenizer, settings)


def require_plausible(config: ModelConfig, checkpoint: Path) -> None:
    """`CheckpointError` if a model of `config` has more weights than its file has bytes.

    So a `config.yaml` with absurd sizes is rejected before memory is allocated for such a model.
    """
    path = checkpoint / MODEL
    if config.num_weights > path.stat().st_size:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, but a model of the sizes in config.yaml has "
            f"{config.num_weights:,} weights; they are not the sizes of the model that was trained"
        )


def load_pretrained(
    path: str | Path,
    *,
    task: TaskName,
    build: Callable[[ModelConfig], nn.Module] = build_model,
    device: str = "auto",
) -> Pretrained:
    """Load what `open_run` opens. `build` must be that of the training; an encoder gets its task's head."""
    checkpoint, tokenizer, settings = open_run(path, task=task)
    if build is build_model:  # the sizes of another model are known only to its builder
        require_plausible(settings.model, checkpoint)
    with torch.inference_mode(False):  # parameters created in inference mode cannot be trained or packed
        model = with_head(build(settings.model), settings)
        load_model(model, checkpoint)
        model = model.to(choose_device(device)).eval()
    return Pretrained(model, tokenizer, settings)
