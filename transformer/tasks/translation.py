"""Translation: pairs of sentences, and the loss of the target given the source."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from transformer.config import Settings
from transformer.data.batches import TokenBatches, tokenize_pairs
from transformer.data.corpus import load_parallel
from transformer.data.moses import train_moses_tokenizer
from transformer.data.tokenizer import Tokenizer
from transformer.decoding.translator import Translator
from transformer.evaluation.validation import TranslationValidation
from transformer.tasks.task import Prepared, make_tokenizer
from transformer.training.fused_loss import overwriting_cross_entropy
from transformer.training.objectives import translation_loss

if TYPE_CHECKING:
    import datasets

OBJECTIVE = partial(translation_loss, cross_entropy=overwriting_cross_entropy)
"""The loss of training and validation. It overwrites the logits, which nothing else reads here."""


class Translation:
    """An encoder-decoder on parallel text (§5.1)."""

    def __init__(self, settings: Settings) -> None:
        self.table = read_table(settings, settings.data.train)
        self.settings = settings

    def train_tokenizer(self) -> Tokenizer:
        """One vocabulary for both languages, from both sides of the training text."""
        data = self.settings.data
        if data.tokenizer == "moses":
            return train_moses_tokenizer(
                *(self.side("source"), self.side("target")),
                vocab_size=data.vocab_size,
                source=data.source,
                target=data.target,
            )
        return make_tokenizer(chain(self.side("source"), self.side("target")), data)

    def side(self, column: str) -> Iterator[str]:
        for part in self.table.iter(batch_size=10_000):
            yield from part[column]

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        tokenized, counts = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
        return Prepared(
            TokenBatches(tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed),
            OBJECTIVE,
            make_validation(tokenizer, settings),
            asdict(counts),
            f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped)",
        )


def read_table(settings: Settings, name: str) -> "datasets.Dataset":
    return load_parallel(name, settings.data.source, settings.data.target)


def make_validation(tokenizer: Tokenizer, settings: Settings) -> TranslationValidation | None:
    """Loss on the validation text, and a sample of it, evenly spread, to translate."""
    if settings.data.valid is None:
        return None
    table = read_table(settings, settings.data.valid)
    tokenized, _ = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
    batches = TokenBatches(
        tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
    )
    size = min(settings.training.valid_sample, len(table))
    sample = table.select([number * len(table) // size for number in range(size)])
    return TranslationValidation(
        batches,
        OBJECTIVE,
        list(sample["source"]),
        list(sample["target"]),
        partial(
            Translator,
            tokenizer=tokenizer,
            model_config=settings.model,
            decoding=settings.decoding,
            warn=ignore,
        ),
    )


def ignore(_: str) -> None:
    """For the translations of a validation: which lines are cut is the same each time."""
