"""The two masks of the Transformer, and the one convention.

A mask is boolean, True where a query may attend to a key, and broadcasts to (batch, heads, queries, keys);
two masks combine with `&`. No query may be left without a key: its softmax would be 0 / 0.
"""

from jaxtyping import Bool, Int
from torch import Tensor, arange


def padding_mask(tokens: Int[Tensor, "batch length"], pad_id: int) -> Bool[Tensor, "batch 1 1 length"]:
    """True where a key holds a real token and may be attended to."""
    return (tokens != pad_id)[:, None, None, :]


def causal_mask(
    positions: Int[Tensor, "batch queries"], length: int
) -> Bool[Tensor, "batch 1 queries {length}"]:
    """True where a key stands at a query's position or before it (§3.2.3).

    Keys stand at positions 0 … length - 1, as in a cache. Slots that a row has not filled yet lie behind
    every query of that row, so they are hidden too.
    """
    keys = arange(length, device=positions.device)
    return (keys <= positions[:, :, None])[:, None]
