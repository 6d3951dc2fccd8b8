"""Checks that all processes have the same settings, and that these fit the run that training starts from."""

from operator import attrgetter
from typing import Any

import torch

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.config import Settings, differing, setting_names
from transformer.data.epochs import EpochBatches
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.hardware import choose_precision
from transformer.version import version

FREE_AT_START = (
    *(
        "model.vocab_size",
        "model.source_vocab_size",
        "model.output_bias",
        "model.tie_embeddings",
        "model.max_positions",
    ),
    *("model.dropout", "model.attention_dropout", "model.activation_dropout", "model.residual_gain"),
)
"""Model settings that may differ from those of the run `training.start_from`. Some of these settings change
the shapes of weights, but `load_model` checks all shapes."""


def require_free(run: Run, resume: bool) -> None:
    if run.steps() and not resume:
        raise ValueError(
            f"{run.path} holds a run already; --resume continues it, --output names another folder"
        )


def require_startable(before: Settings, settings: Settings) -> None:
    """Raise `CheckpointError` if training cannot start from a run with the settings `before`."""
    fixed = [name for name in setting_names() if name.startswith("model.") and name not in FREE_AT_START]
    if before.model.kind == "encoder_only" and settings.model.kind == "encoder_decoder":
        fixed.remove("model.kind")  # the new model takes over the encoder
    fixed += ["data.tokenizer", "data.vocab_size", "data.target_vocab_size", "data.normalization"]
    fixed += ["data.source", "data.target"] if before.data.tokenizer == "moses" else []
    for name, old_value, new_value in differing(before, settings, fixed):
        raise CheckpointError(
            f"training.start_from {settings.training.start_from} has {name} {old_value!r}, "
            f"not {new_value!r}; use the same value"
        )


def versions() -> dict[str, str]:
    """Return the versions of this package and of torch."""
    return {"transformer": version(), "torch": torch.__version__}


def asked_for(settings: Settings, *, resume: bool, device: torch.device) -> dict[str, Any]:
    """Return all values that must be the same in every process, by the name of the setting or option.

    `auto` is replaced by the chosen device or precision, because `auto` may choose differently on another
    machine. Only the types of the devices are compared, because each process may have a different GPU.
    """
    given = {name: attrgetter(name)(settings) for name in setting_names()}
    given |= {"device": device.type, "precision": choose_precision(settings.precision, device)}
    return given | {"--resume": resume} | versions()


def what_was_read(tokenizer: Tokenizer, batches: EpochBatches[Any], evaluate: Any) -> dict[str, str | None]:
    """Return hashes of the tokenizer and of the training and validation data that this process has read.

    The processes compare these hashes, because the files on different machines may differ.
    """
    validation = getattr(evaluate, "batches", None)
    return {
        "the tokenizer": tokenizer.digest[:12],
        "the training text": batches.fingerprint[:12],
        "the validation text": None if validation is None else validation.fingerprint[:12],
    }
