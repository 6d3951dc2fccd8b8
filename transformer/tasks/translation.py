"""Translation: pairs of sentences, and the loss of the target given the source."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from transformer.config import Settings
from transformer.data.batches import TokenBatches, tokenize_pairs
from transformer.data.corpus import load_parallel
from transformer.data.tokenizers.moses import train_moses_tokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.translator import Translator
from transformer.evaluation.bleu import choose_tokenizer, make_bleu, signature
from transformer.evaluation.validation import TranslationValidation
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.task import Prepared, make_tokenizer, prepare_validation
from transformer.training.objectives import TranslationLoss

if TYPE_CHECKING:
    import datasets


def make_objective(label_smoothing: float) -> TranslationLoss:
    """The loss of training and validation. It overwrites the logits, which nothing else reads here."""
    return TranslationLoss(label_smoothing, cross_entropy=overwriting_cross_entropy)


class ParallelText:
    """The training text of a task that learns from pairs of sentences."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.table = read_table(settings, settings.data.train)

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


class Translation(ParallelText):
    """An encoder-decoder on parallel text (§5.1); its `settings` know how BLEU is computed."""

    def __init__(self, settings: Settings) -> None:
        bleu_tokenizer = choose_tokenizer(settings.data)
        if computes_bleu(settings):
            make_bleu(bleu_tokenizer)  # refuses one that is not installed before anything is read
        super().__init__(replace(settings, data=replace(settings.data, bleu_tokenizer=bleu_tokenizer)))

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        tokenized, counts = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
        batches = TokenBatches(
            tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed
        )
        bleu = (
            {"bleu_signature": signature(choose_tokenizer(settings.data))} if computes_bleu(settings) else {}
        )
        return Prepared(
            batches,
            make_objective(settings.training.label_smoothing),
            prepare_validation(make_validation, tokenizer, settings),
            asdict(counts) | bleu,
            f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped)",
        )


def computes_bleu(settings: Settings) -> bool:
    """Whether validation translates anything."""
    return settings.data.valid is not None and settings.training.valid_sample > 0


def read_table(settings: Settings, name: str) -> "datasets.Dataset":
    return load_parallel(name, settings.data.source, settings.data.target)


def make_validation(name: str, tokenizer: Tokenizer, settings: Settings) -> TranslationValidation:
    """Loss on a text, and a sample of it, evenly spread, to translate."""
    table = read_table(settings, name)
    tokenized, _ = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
    batches = TokenBatches(
        tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
    )
    size = min(settings.training.valid_sample, len(table))
    sample = table.select([number * len(table) // size for number in range(size)])
    return TranslationValidation(
        batches,
        make_objective(0.0),
        list(sample["source"]),
        list(sample["target"]),
        partial(
            Translator,
            tokenizer=tokenizer,
            model_config=settings.model,
            decoding=settings.decoding,
            warn=ignore,
        ),
        choose_tokenizer(settings.data),
    )


def ignore(_: str) -> None:
    """For the translations of a validation: which lines are cut is the same each time."""
