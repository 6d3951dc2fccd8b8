"""Classification: an encoder learns from labelled sentences to predict the label of a sentence.

A trained model is used through `Classifier` (`decoding/predictors.py`) or `transformer classify`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import nn

from transformer.config import Settings
from transformer.config.checks import require
from transformer.data.sentences import (
    LABEL_FORMATS,
    LabelledBatch,
    LabelledBatches,
    Sentence,
    class_names,
    class_numbers,
    encode_sentences,
    read_sentences,
)
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.training import make_tokenizer
from transformer.evaluation.validation import mean_loss, outputs
from transformer.model.heads import sequence_classifier
from transformer.tasks.registry import TASKS
from transformer.tasks.task import Task, TokenizedText
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Loss, at_least_float32
from transformer.training.parallel import gathered


@dataclass(frozen=True)
class ClassificationLoss:
    """The cross-entropy of each sentence's class; label smoothing is spread evenly over the classes."""

    label_smoothing: float

    def __call__(self, model: nn.Module, batch: LabelledBatch) -> Loss:
        logits = at_least_float32(model(batch.tokens))
        total = F.cross_entropy(logits, batch.classes, label_smoothing=self.label_smoothing, reduction="sum")
        return Loss(total, batch.target_tokens)


@dataclass(frozen=True)
class ClassificationValidation:
    """Computes the loss per sentence, and the percentage of sentences that are classified correctly."""

    batches: LabelledBatches
    objective: ClassificationLoss

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, sentences = mean_loss(model, self.batches, self.objective, group)
        with gathered(model):
            right = sum(
                int((outputs(model, batch.tokens).argmax(dim=-1) == batch.classes).sum())
                for batch in self.batches.one_pass(group.rank, group.size)
            )
        [right] = group.sum(right)
        return {"loss": loss, "accuracy": 100 * right / sentences}


class ClassificationTask(Task):
    """Trains a sentence classifier. Sets `data.classes` in its `settings` to the names of the classes."""

    kind, metrics = TASKS["classification"].kind, TASKS["classification"].metrics
    head = staticmethod(sequence_classifier)

    def __init__(self, settings: Settings) -> None:
        require(
            settings.data.label_format is not None,
            f"data.label_format is null; for task classification choose one of {', '.join(LABEL_FORMATS)}",
        )
        self.sentences = read_sentences(settings.data.train, settings.data.label_format)
        names = ",".join(class_names(self.sentences, settings.data))
        self.settings = replace(settings, data=replace(settings.data, classes=names))

    def train_tokenizer(self) -> Tokenizer:
        return make_tokenizer(self.settings.data, [sentence.text for sentence in self.sentences])

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        classes = settings.data.classes or ""
        return TokenizedText(
            make_batches(self.sentences, tokenizer, settings, shuffle=True),
            {"sentences": len(self.sentences), "classes": classes.count(",") + 1},
            f"{len(self.sentences):,} sentences of the classes {classes.replace(',', ', ')}",
        )

    @staticmethod
    def objective(settings: Settings) -> ClassificationLoss:
        return ClassificationLoss(settings.training.label_smoothing)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> ClassificationValidation:
        sentences = read_sentences(name, settings.data.label_format)
        batches = make_batches(sentences, tokenizer, settings, shuffle=False)
        return ClassificationValidation(batches, ClassificationLoss(0.0))


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
