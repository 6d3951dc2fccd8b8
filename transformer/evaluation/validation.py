"""What the training loop asks of a model between updates."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from transformer.data.batches import TokenBatches
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import corpus_scores
from transformer.training.objectives import translation_loss


@dataclass(frozen=True)
class Validation:
    """Loss and perplexity per token on a text, without label smoothing, and scores of a sample of it."""

    batches: TokenBatches
    sources: list[str]
    references: list[str]
    translator: Callable[[nn.Module], Translator]

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        total, tokens = 0.0, 0
        for batch in self.batches.one_pass():
            loss = translation_loss(model, batch.to(device), label_smoothing=0.0)
            total += float(loss.total)
            tokens += loss.tokens
        metrics = {"loss": total / tokens, "perplexity": math.exp(min(total / tokens, 700.0))}
        if self.sources:
            outputs = self.translator(model).translate(self.sources, beam_size=1)
            scores = corpus_scores(outputs, self.references)
            metrics |= {"bleu": scores.bleu, "exact_match": scores.exact_match}
        return metrics
