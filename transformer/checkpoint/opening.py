"""Opens a checkpoint without importing torch: checks its files, and reads its settings and tokenizer."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.hub import local_folder
from transformer.checkpoint.reading import read_manifest
from transformer.checkpoint.run import Run, find_run
from transformer.config import ModelConfig, Settings
from transformer.config.files import load_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.tasks.registry import TASKS, is_custom


class OpenedRun(NamedTuple):
    """A checkpoint with verified hashes, its tokenizer and its settings; the weights are not loaded yet."""

    checkpoint: Path
    tokenizer: Tokenizer
    settings: Settings


def find_pretrained(name: str | Path) -> tuple[Run, Path]:
    """Find the run and the checkpoint for `--run NAME`, where NAME is a local folder or a run's Hub id."""
    return find_run(local_folder(name))


def open_run(path: str | Path, *, task: str) -> OpenedRun:
    """Open a checkpoint of a run that was trained for `task`.

    `path` is the folder of a checkpoint, the folder of a run, or the Hub id of a run. If `path` is a
    run, the run's best checkpoint is opened. A run of a custom task is also accepted if its `model.kind` is
    the one that `task` needs.
    """
    run, checkpoint = find_pretrained(path)
    settings = load_settings(run.config)
    trained_task = settings.trained_task
    is_related = is_custom(trained_task) and TASKS[task].kind == settings.model.kind
    if trained_task != task and not is_related:
        raise CheckpointError(f"{path}: trained for {trained_task}; {task} is needed here")
    return open_checkpoint(run, checkpoint)


def open_checkpoint(run: Run, checkpoint: Path, *, unread: Collection[str] = (OPTIMIZER,)) -> OpenedRun:
    """Open a checkpoint of a run, and check the hash of every file except those named in `unread`."""
    settings = load_settings(run.config)
    tokenizer = load_tokenizer(run.tokenizer)
    if read_manifest(checkpoint, unread=unread)["tokenizer"] != tokenizer.digest:
        raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {checkpoint} was trained with")
    return OpenedRun(checkpoint, tokenizer, settings)


def require_plausible(config: ModelConfig, checkpoint: Path) -> None:
    """Raise `CheckpointError` if a model of `config` has more weights than the checkpoint's file has bytes.

    This rejects a `config.yaml` with absurd sizes before memory is allocated for such a model.
    """
    path = checkpoint / MODEL
    if config.num_weights > path.stat().st_size:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes, but a model of the sizes in config.yaml has "
            f"{config.num_weights:,} weights; they are not the sizes of the model that was trained"
        )
