"""What the recipe asks of a task, whatever the task is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from transformer.config import DataConfig, Settings
from transformer.data.characters import train_character_tokenizer
from transformer.data.epochs import EpochBatches
from transformer.data.tokenizer import Tokenizer, train_tokenizer
from transformer.requirements import require
from transformer.training.distributed import Group
from transformer.training.objectives import Objective


@dataclass(frozen=True)
class Prepared:
    """All that training needs beside the model."""

    batches: EpochBatches[Any]
    objective: Objective
    evaluate: Callable[[nn.Module, Group], Mapping[str, float]] | None
    counts: dict[str, int]
    """For the log: what was read, and what was dropped."""
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


def make_tokenizer(texts: Iterable[str], data: DataConfig) -> Tokenizer:
    """The tokenizer that `data` asks for, trained on these texts."""
    if data.tokenizer == "characters":
        return train_character_tokenizer(texts)
    require(data.tokenizer != "moses", "data.tokenizer moses is for translation alone")
    return train_tokenizer(texts, vocab_size=data.vocab_size, normalization=data.normalization)
