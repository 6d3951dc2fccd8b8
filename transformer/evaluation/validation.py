"""What the training loop asks of a model between updates; several processes share a text's batches."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transformer.data.batches import PairBatches, TokenBatches
from transformer.data.epochs import EpochBatches
from transformer.data.masking import MaskedBatches
from transformer.data.running_text import BlockBatches
from transformer.data.sentences import LabelledBatches
from transformer.data.tokenizers.protocol import PAD_ID
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import corpus_scores
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Objective


@torch.no_grad()
def mean_loss(
    model: nn.Module, batches: EpochBatches[Any], objective: Objective, group: Group
) -> tuple[float, int]:
    """The loss per token, and the number of tokens."""
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    for batch in batches.one_pass(group.rank, group.size):
        loss = objective(model, batch.to(device))
        total += float(loss.total)
        tokens += loss.tokens
    total, tokens = group.sum_tensor(torch.tensor([total, tokens], dtype=torch.float64)).tolist()
    return total / tokens, int(tokens)


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # beyond it the exponential overflows


@dataclass(frozen=True)
class TranslationValidation:
    """Loss and perplexity per token of a parallel text, and scores of a sample of it."""

    batches: TokenBatches
    objective: Objective
    sources: list[str]
    references: list[str]
    translator: Callable[[nn.Module], Translator]
    bleu_tokenizer: str = "13a"

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, _ = mean_loss(model, self.batches, self.objective, group)
        metrics = {"loss": loss, "perplexity": perplexity(loss)}
        if self.sources:
            share = self.sources[group.rank :: group.size]
            outputs = group.collect(self.translator(model).translate(share, beam_size=1))
            scores = corpus_scores(outputs, self.references, self.bleu_tokenizer)
            metrics |= {"bleu": scores.bleu, "exact_match": scores.exact_match}
        return metrics


@dataclass(frozen=True)
class LanguageModelValidation:
    """Loss and perplexity per token of a running text; bits per byte do not depend on the tokens."""

    batches: BlockBatches
    objective: Objective
    text_bytes: int

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, tokens = mean_loss(model, self.batches, self.objective, group)
        bits_per_byte = loss * tokens / math.log(2) / self.text_bytes
        return {"loss": loss, "perplexity": perplexity(loss), "bits_per_byte": bits_per_byte}


@dataclass(frozen=True)
class MaskedValidation:
    """Loss and perplexity per hidden token, and the share of them whose most probable token is right."""

    batches: MaskedBatches
    objective: Objective

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, tokens = mean_loss(model, self.batches, self.objective, group)
        right = 0
        for batch in self.batches.one_pass(group.rank, group.size):
            found = outputs(model, batch.tokens).argmax(dim=-1)
            right += int(((found == batch.labels) & (batch.labels != PAD_ID)).sum())
        [right] = group.sum(right)
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": 100 * right / tokens}


@dataclass(frozen=True)
class ClassificationValidation:
    """Loss per sentence, and the share of them whose most probable class is right."""

    batches: LabelledBatches
    objective: Objective

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, sentences = mean_loss(model, self.batches, self.objective, group)
        [right] = group.sum(
            sum(
                int((outputs(model, batch.tokens).argmax(dim=-1) == batch.classes).sum())
                for batch in self.batches.one_pass(group.rank, group.size)
            )
        )
        return {"loss": loss, "accuracy": 100 * right / sentences}


@dataclass(frozen=True)
class EmbeddingValidation:
    """Loss per pair, among those of its batch, and how often a sentence's nearest one is its other side.

    P@1 is taken among all pairs of the text, from each side to the other.
    """

    batches: PairBatches
    objective: Objective

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, _ = mean_loss(model, self.batches, self.objective, group)
        share = [
            (outputs(model, batch.src_tokens), outputs(model, batch.tgt_tokens[:, 1:]))
            for batch in self.batches.one_pass(group.rank, group.size)
        ]
        sides = group.collect(share)
        sources, targets = (torch.cat(side) for side in zip(*sides, strict=True))
        return {
            "loss": loss,
            "p@1": precision_at_1(sources, targets),
            "p@1_reversed": precision_at_1(targets, sources),
        }


@torch.no_grad()
def outputs(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens.to(next(model.parameters()).device)).float().cpu()


def precision_at_1(queries: Tensor, candidates: Tensor) -> float:
    """Per cent of the queries whose nearest candidate is the one in their row; both have length 1."""
    return 100 * float(is_nearest(queries, candidates).float().mean())


def is_nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    """(queries,): whether the nearest of all candidates is the one in the query's row."""
    found = [(part @ candidates.T).argmax(dim=1) for part in torch.split(queries, 1000)]
    return torch.cat(found) == torch.arange(len(queries))
