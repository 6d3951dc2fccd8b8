"""Language modelling: a decoder learns to predict each token of a running text from the tokens before it.

A trained model is used through `TextGenerator` (`decoding/generator.py`) or `transformer generate`.
"""

import math
from dataclasses import dataclass

from torch import nn

from transformer.config import Settings
from transformer.data.running_text import BlockBatches, TextBatch, read_text, token_ids
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.training import make_tokenizer
from transformer.evaluation.validation import mean_loss, perplexity
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.registry import TASKS
from transformer.tasks.task import Task, TokenizedText
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Loss, TokenLoss


class LanguageModelLoss(TokenLoss):
    """The loss of predicting each token of a block from the tokens before it."""

    def __call__(self, model: nn.Module, batch: TextBatch) -> Loss:
        logits = model(batch.tokens[:, :-1])
        return Loss(self.total(logits, batch.tokens[:, 1:]), batch.target_tokens)


@dataclass(frozen=True)
class LanguageModelValidation:
    """Computes loss and perplexity per token, and bits per byte, which can be compared across tokenizers."""

    batches: BlockBatches
    objective: LanguageModelLoss
    text_bytes: int

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, tokens = mean_loss(model, self.batches, self.objective, group)
        bits_per_byte = loss * tokens / math.log(2) / self.text_bytes
        return {"loss": loss, "perplexity": perplexity(loss), "bits_per_byte": bits_per_byte}


class LanguageModelTask(Task):
    """Trains a decoder-only model on running text."""

    kind, metrics = TASKS["language_model"].kind, TASKS["language_model"].metrics

    def __init__(self, settings: Settings) -> None:
        self.text = read_text(settings.data.train)
        self.settings = settings

    def train_tokenizer(self) -> Tokenizer:
        data = self.settings.data
        has_lines = data.tokenizer == "characters"
        return make_tokenizer(data, [self.text] if has_lines else self.text.split("\n"))

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        batches = make_batches(self.text, tokenizer, settings, shuffle=True)
        tokens = len(batches.ids)
        return TokenizedText(
            batches,
            {"characters": len(self.text), "tokens": tokens},
            f"{len(self.text):,} characters, {tokens:,} tokens in blocks of {settings.data.context}",
        )

    @staticmethod
    def objective(settings: Settings) -> LanguageModelLoss:
        """Return a loss that overwrites the logits, which is safe because nothing else reads them."""
        return LanguageModelLoss(settings.training.label_smoothing, cross_entropy=overwriting_cross_entropy)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> LanguageModelValidation:
        """Return a validation on the whole file `name`, cut into blocks of the same length as in training."""
        text = read_text(name)
        batches = make_batches(text, tokenizer, settings, shuffle=False)
        objective = LanguageModelLoss(0.0, cross_entropy=overwriting_cross_entropy)
        return LanguageModelValidation(batches, objective, len(text.encode()))


def make_batches(text: str, tokenizer: Tokenizer, settings: Settings, *, shuffle: bool) -> BlockBatches:
    return BlockBatches(
        token_ids(text, tokenizer),
        context=settings.data.context,
        tokens_per_batch=settings.training.tokens_per_batch,
        seed=settings.seed,
        shuffle=shuffle,
    )
