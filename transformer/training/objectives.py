"""What training minimises: a sum over tokens, and the number of tokens that it runs over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import Precision
from transformer.data.batches import Batch
from transformer.data.masking import MaskedBatch
from transformer.data.running_text import TextBatch
from transformer.data.sentences import LabelledBatch
from transformer.hardware import autocast

CrossEntropy = Callable[..., Tensor]
"""`smoothed_cross_entropy`, or another function that computes the same."""


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
    """Cross-entropy with label smoothing (§5.4), summed over real tokens, in float32 at least.

    The gold token keeps 1 - ε, and ε/V falls on every token of the vocabulary. The training loop computes the
    same by `overwriting_cross_entropy` (`kernels/loss.py`), in less time and memory.
    """
    logits = at_least_float32(logits).flatten(0, 1)
    return F.cross_entropy(
        logits, labels.flatten(), ignore_index=pad_id, label_smoothing=label_smoothing, reduction="sum"
    )


def at_least_float32(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


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


def translation_loss(
    model: nn.Module,
    batch: Batch,
    *,
    label_smoothing: float,
    pad_id: int = 0,
    cross_entropy: CrossEntropy = smoothed_cross_entropy,
) -> Loss:
    """Predict each target token, EOS included, from the source and the target tokens before it."""
    logits = model(batch.src_tokens, batch.tgt_tokens[:, :-1])
    labels = batch.tgt_tokens[:, 1:]
    total = cross_entropy(logits, labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)


def language_model_loss(
    model: nn.Module,
    batch: TextBatch,
    *,
    label_smoothing: float,
    pad_id: int = 0,
    cross_entropy: CrossEntropy = smoothed_cross_entropy,
) -> Loss:
    """Predict each token of a block from those before it."""
    logits = model(batch.tokens[:, :-1])
    labels = batch.tokens[:, 1:]
    total = cross_entropy(logits, labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)


def masked_loss(
    model: nn.Module,
    batch: MaskedBatch,
    *,
    label_smoothing: float,
    pad_id: int = 0,
    cross_entropy: CrossEntropy = smoothed_cross_entropy,
) -> Loss:
    """Predict the tokens that were hidden, each from all the others."""
    logits = model(batch.tokens)
    total = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)


def classification_loss(model: nn.Module, batch: LabelledBatch, *, label_smoothing: float) -> Loss:
    """Predict the class of each sentence; smoothing spreads its mass over the classes."""
    logits = model(batch.tokens)
    total = F.cross_entropy(
        at_least_float32(logits), batch.classes, label_smoothing=label_smoothing, reduction="sum"
    )
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
        right = torch.arange(logits.shape[0], device=logits.device)
        both = [
            F.cross_entropy(side, right, label_smoothing=label_smoothing, reduction="sum")
            for side in (logits, logits.T)
        ]
        return Loss((both[0] + both[1]) / 2, batch.target_tokens)
