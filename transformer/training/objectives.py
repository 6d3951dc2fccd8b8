"""What training minimises: a sum over tokens, and the number of tokens that it runs over."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from transformer.config import Precision
from transformer.data.batches import Batch
from transformer.data.masking import MaskedBatch
from transformer.data.running_text import TextBatch
from transformer.data.sentences import LabelledBatch
from transformer.hardware import autocast

CHUNK_ELEMENTS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of which the loss is computed at once: what a core's cache holds, and what keeps a GPU busy."""


class Loss(NamedTuple):
    """`total` is a sum, so that batches can be added before they are divided by all their tokens."""

    total: Float[Tensor, ""]
    tokens: int


def smoothed_cross_entropy(
    logits: Float[Tensor, "batch length vocabulary"],
    labels: Int[Tensor, "batch length"],
    *,
    label_smoothing: float,
    pad_id: int,
) -> Float[Tensor, ""]:
    """Cross-entropy with label smoothing (§5.4), summed over real tokens.

    The gold token keeps 1 - ε, and ε/V falls on every token of the vocabulary. Equal to torch's
    `cross_entropy` but for memory: where a gradient is needed it overwrites `logits`, the only tensor of
    batch × vocabulary that is ever alive.
    """
    return SmoothedCrossEntropy.apply(logits.flatten(0, 1), labels.flatten(), label_smoothing, pad_id)  # type: ignore[no-untyped-call]


class SmoothedCrossEntropy(torch.autograd.Function):
    """Loss and gradient together, a few rows at a time: the softmax is computed once and stays in cache."""

    @staticmethod
    def forward(
        context: Any,
        logits: Float[Tensor, "tokens vocabulary"],
        labels: Int[Tensor, " tokens"],
        epsilon: float,
        pad_id: int,
    ) -> Float[Tensor, ""]:
        vocabulary = logits.shape[1]
        is_real = labels != pad_id
        total = torch.zeros((), device=logits.device)
        elements = CHUNK_ELEMENTS.get(logits.device.type, CHUNK_ELEMENTS["cuda"])
        rows = max(1, elements // vocabulary)
        for part, gold, real in zip(*(torch.split(x, rows) for x in (logits, labels, is_real)), strict=True):
            scores = part.float()
            expected = (1 - epsilon) * scores.gather(1, gold[:, None])[:, 0] + epsilon * scores.mean(dim=1)
            probabilities = scores.softmax(dim=1)  # up to `one`: this kernel is fast, but adds inexactly
            one = probabilities.sum(dim=1, keepdim=True)
            # log Σ exp of the scores, from the largest probability, which is at least 1 / V
            log_sums = scores.amax(dim=1) - (probabilities.amax(dim=1) / one[:, 0]).log()
            total += ((log_sums - expected) * real).sum()
            if context.needs_input_grad[0]:
                # The gradient is the model's distribution minus the smoothed one.
                gradient = probabilities.sub_(epsilon / vocabulary * one)
                gradient.scatter_add_(1, gold[:, None], (epsilon - 1) * one)
                part.copy_(gradient.mul_(real[:, None] / one))
        if context.needs_input_grad[0]:
            context.gradient = logits
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, scale: Float[Tensor, ""]) -> tuple[Tensor, None, None, None]:
        return context.gradient.mul_(scale), None, None, None


@runtime_checkable
class Objective(Protocol):
    """A task's loss of a batch; `label_smoothing` is ε, and 0 in validation."""

    def __call__(self, model: nn.Module, batch: Any, *, label_smoothing: float) -> Loss: ...


def in_precision(objective: Objective, device: torch.device, precision: Precision) -> Objective:
    """`objective` with the matrix products of its forward pass in `precision`.

    The backward pass, which runs outside, computes each gradient in the type of what it belongs to: what an
    objective keeps in float32 has gradients in float32.
    """

    def compute(model: nn.Module, batch: Any, *, label_smoothing: float) -> Loss:
        with autocast(device, precision):
            return objective(model, batch, label_smoothing=label_smoothing)

    return compute


def translation_loss(model: nn.Module, batch: Batch, *, label_smoothing: float, pad_id: int = 0) -> Loss:
    """Predict each target token, EOS included, from the source and the target tokens before it."""
    logits = model(batch.src_tokens, batch.tgt_tokens[:, :-1])
    labels = batch.tgt_tokens[:, 1:]
    total = smoothed_cross_entropy(logits, labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)


def language_model_loss(
    model: nn.Module, batch: TextBatch, *, label_smoothing: float, pad_id: int = 0
) -> Loss:
    """Predict each token of a block from those before it."""
    logits = model(batch.tokens[:, :-1])
    labels = batch.tokens[:, 1:]
    total = smoothed_cross_entropy(logits, labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)


def masked_loss(model: nn.Module, batch: MaskedBatch, *, label_smoothing: float, pad_id: int = 0) -> Loss:
    """Predict the tokens that were hidden, each from all the others."""
    total = smoothed_cross_entropy(
        model(batch.tokens), batch.labels, label_smoothing=label_smoothing, pad_id=pad_id
    )
    return Loss(total, batch.target_tokens)


def classification_loss(model: nn.Module, batch: LabelledBatch, *, label_smoothing: float) -> Loss:
    """Predict the class of each sentence; smoothing spreads its mass over the classes."""
    logits = model(batch.tokens)
    total = F.cross_entropy(logits.float(), batch.classes, label_smoothing=label_smoothing, reduction="sum")
    return Loss(total, batch.target_tokens)


@dataclass(frozen=True)
class ContrastiveLoss:
    """Find the other side of each pair among all sentences of the batch, in both directions (InfoNCE).

    Cosines / `temperature` are the logits. Half of the sum of the two directions counts, so that a pair
    weighs 1.
    """

    temperature: float

    def __call__(self, model: nn.Module, batch: Batch, *, label_smoothing: float) -> Loss:
        sources, targets = model(batch.src_tokens), model(batch.tgt_tokens[:, 1:])  # without BOS: as sources
        with torch.autocast(sources.device.type, enabled=False):  # divided by 0.05, bfloat16 is off by 0.1
            logits = sources @ targets.T / self.temperature  # (pairs, pairs)
        right = torch.arange(len(logits), device=logits.device)
        both = [
            F.cross_entropy(side, right, label_smoothing=label_smoothing, reduction="sum")
            for side in (logits, logits.T)
        ]
        return Loss((both[0] + both[1]) / 2, batch.target_tokens)
