"""What the recipe asks of a task, whatever the task is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from transformer.config import DataConfig, Settings
from transformer.config.checks import require
from transformer.data.epochs import EpochBatches
from transformer.data.text import CorpusError
from transformer.data.tokenizers.characters import train_character_tokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.training.distributed import Group
from transformer.training.objectives import Objective

Evaluate = Callable[[nn.Module, Group], Mapping[str, float]]
"""Validation: the figures of a model; the processes of a group share the work."""


@dataclass(frozen=True)
class Prepared:
    """All that training needs beside the model."""

    batches: EpochBatches[Any]
    objective: Objective
    evaluate: Evaluate | None
    counts: dict[str, Any]
    """For the log: what was read, what was dropped, and how BLEU is computed."""
    summary: str
    """The same in a few words."""


@runtime_checkable
class Task(Protocol):
    """One way to train: made from the settings, it has read its training text."""

    settings: Settings
    """What it was made from, with what the text decides filled in."""

    def train_tokenizer(self) -> Tokenizer:
        """The tokenizer that the settings ask for, trained on the training text."""

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        """Batches, loss and validation; `settings` know the size of the vocabulary by now."""


def prepare_validation(
    make: Callable[[str, Tokenizer, Settings], Evaluate], tokenizer: Tokenizer, settings: Settings
) -> Evaluate | None:
    """What `make` makes of the validation text, if there is one; an error says that it is about that text."""
    name = settings.data.valid
    if name is None:
        return None
    try:
        return make(name, tokenizer, settings)
    except ValueError as error:
        named = "" if name in str(error) else f" {name}"
        raise CorpusError(f"the validation text (data.valid){named}: {error}") from error


def make_tokenizer(texts: Iterable[str], data: DataConfig) -> Tokenizer:
    """The tokenizer that `data` asks for, trained on these texts."""
    if data.tokenizer == "characters":
        return train_character_tokenizer(texts)
    require(data.tokenizer != "moses", "data.tokenizer moses is for translation alone")
    return train_tokenizer(texts, vocab_size=data.vocab_size, normalization=data.normalization)
