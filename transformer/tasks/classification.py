"""Classification: sentences with a label each, and the loss of their classes."""

from collections.abc import Sequence
from dataclasses import replace

from transformer.config import Settings
from transformer.config.checks import require
from transformer.data.sentences import (
    LabelledBatches,
    Sentence,
    class_names,
    class_numbers,
    encode_sentences,
    read_sentences,
)
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.evaluation.validation import ClassificationValidation
from transformer.tasks.task import Prepared, make_tokenizer, prepare_validation
from transformer.training.objectives import ClassificationLoss


class Classification:
    """An encoder that names the class of a sentence; its `settings` know the classes."""

    def __init__(self, settings: Settings) -> None:
        require(
            settings.data.label_format is not None,
            "data.label_format is null; for task classification choose one of tab, colon",
        )
        self.sentences = read_sentences(settings.data.train, settings.data.label_format)
        names = ",".join(class_names(self.sentences, settings.data))
        self.settings = replace(settings, data=replace(settings.data, classes=names))

    def train_tokenizer(self) -> Tokenizer:
        return make_tokenizer([sentence.text for sentence in self.sentences], self.settings.data)

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        classes = settings.data.classes or ""
        return Prepared(
            make_batches(self.sentences, tokenizer, settings, shuffle=True),
            ClassificationLoss(settings.training.label_smoothing),
            prepare_validation(make_validation, tokenizer, settings),
            {"sentences": len(self.sentences), "classes": classes.count(",") + 1},
            f"{len(self.sentences):,} sentences of the classes {classes.replace(',', ', ')}",
        )


def make_batches(
    sentences: Sequence[Sentence], tokenizer: Tokenizer, settings: Settings, *, shuffle: bool
) -> LabelledBatches:
    texts = [sentence.text for sentence in sentences]
    return LabelledBatches(
        encode_sentences(texts, tokenizer, settings.data.max_tokens),
        class_numbers(sentences, class_names(sentences, settings.data)),
        tokens_per_batch=settings.training.tokens_per_batch,
        seed=settings.seed,
        shuffle=shuffle,
    )


def make_validation(name: str, tokenizer: Tokenizer, settings: Settings) -> ClassificationValidation:
    sentences = read_sentences(name, settings.data.label_format)
    return ClassificationValidation(
        make_batches(sentences, tokenizer, settings, shuffle=False), ClassificationLoss(0.0)
    )
