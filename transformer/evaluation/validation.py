"""What the training loop asks of a model between updates."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from transformer.data.batches import TokenBatches
from transformer.data.running_text import BlockBatches
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import corpus_scores
from transformer.training.objectives import Objective, language_model_loss, translation_loss


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Iterable[Any], objective: Objective) -> tuple[float, int]:
    """The loss per token without label smoothing, and the number of tokens."""
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    for batch in batches:
        loss = objective(model, batch.to(device), label_smoothing=0.0)
        total += float(loss.total)
        tokens += loss.tokens
    return total / tokens, tokens


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # beyond it the exponential overflows


@dataclass(frozen=True)
class TranslationValidation:
    """Loss and perplexity per token of a parallel text, and scores of a sample of it."""

    batches: TokenBatches
    sources: list[str]
    references: list[str]
    translator: Callable[[nn.Module], Translator]

    def __call__(self, model: nn.Module) -> dict[str, float]:
        loss, _ = mean_loss(model, self.batches.one_pass(), translation_loss)
        metrics = {"loss": loss, "perplexity": perplexity(loss)}
        if self.sources:
            outputs = self.translator(model).translate(self.sources, beam_size=1)
            scores = corpus_scores(outputs, self.references)
            metrics |= {"bleu": scores.bleu, "exact_match": scores.exact_match}
        return metrics


@dataclass(frozen=True)
class LanguageModelValidation:
    """Loss and perplexity per token of a running text; bits per byte do not depend on the tokens."""

    batches: BlockBatches
    text_bytes: int

    def __call__(self, model: nn.Module) -> dict[str, float]:
        loss, tokens = mean_loss(model, self.batches.one_pass(), language_model_loss)
        bits_per_byte = loss * tokens / math.log(2) / self.text_bytes
        return {"loss": loss, "perplexity": perplexity(loss), "bits_per_byte": bits_per_byte}
