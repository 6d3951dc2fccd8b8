"""What training minimises: a sum over tokens, and the number of tokens that it runs over."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.data.batches import Batch


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
    """Summed over real tokens; the gold token keeps 1 - ε and every token gets ε/V (§5.4)."""
    return F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=pad_id,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def translation_loss(model: nn.Module, batch: Batch, *, label_smoothing: float, pad_id: int = 0) -> Loss:
    """Predict each target token, EOS included, from the source and the target tokens before it."""
    logits = model(batch.src_tokens, batch.tgt_tokens[:, :-1])
    labels = batch.tgt_tokens[:, 1:]
    total = smoothed_cross_entropy(logits, labels, label_smoothing=label_smoothing, pad_id=pad_id)
    return Loss(total, batch.target_tokens)
