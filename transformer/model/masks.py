"""The Transformer's two masks, and the `Context` that says which keys a query may attend to (§3.2.3).

A mask is boolean, True where a query may attend to a key, and broadcasts to (batch, heads, queries, keys);
combine two masks with `&`. Every query needs at least one key: without a key, its softmax would be 0 / 0.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from transformer.kernels.positions import below
from transformer.model.attention import KeyValue


def padding_mask(tokens: Int[Tensor, "batch length"], pad_id: int) -> Bool[Tensor, "batch 1 1 length"]:
    """True where a key holds a real token and may be attended to."""
    return (tokens != pad_id)[:, None, None, :]


def causal_mask(
    positions: Int[Tensor, "batch queries"], length: int
) -> Bool[Tensor, "batch 1 queries {length}"]:
    """True where a key's position is not after the position of the query (§3.2.3).

    Keys are at positions 0 … length - 1, as in a cache. If a row has not filled all slots of a cache, the
    empty slots come after all queries of the row, so they are hidden too.
    """
    keys = torch.arange(length, device=positions.device)
    return (keys <= positions[:, :, None])[:, None]


@runtime_checkable
class Cache(Protocol):
    """Keys and values of earlier tokens, such as a `KeyValueCache`."""

    def append(self, kv: KeyValue, positions: Int[Tensor, "#batch length"]) -> KeyValue:
        """Add the keys and values of new tokens and return all keys and values that may be attended to."""
        ...


class Context(NamedTuple):
    """The keys that one layer may attend to, in the three uses of attention (§3.2.3); made by the stack.

    Self-attention reads its own tokens and the tokens in the `cache`, where `mask` and `is_causal` allow it.
    Cross-attention reads the `memory`, the encoder's output, where `memory_mask` is True.
    """

    positions: Int[Tensor, "#batch queries"]
    mask: Bool[Tensor, "#batch 1 #queries keys"] | None = None
    is_causal: bool = False
    cache: Cache | None = None
    memory: KeyValue | None = None
    memory_mask: Bool[Tensor, "sentences 1 1 source"] | None = None

    def for_layer(
        self,
        cache: Cache | None,
        memory: KeyValue | None,
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None,
    ) -> "Context":
        """Return this context with one layer's cache and that layer's keys and values of the memory."""
        return Context(self.positions, self.mask, self.is_causal, cache, memory, memory_mask)


def bidirectional_context(tokens: Int[Tensor, "batch length"], pad_id: int) -> Context:
    """Make the context of an encoder: each position may attend to all real tokens of its row (§3.2.3)."""
    return Context(sequence_positions(tokens), mask=padding_mask(tokens, pad_id))


def causal_context(tokens: Int[Tensor, "batch length"]) -> Context:
    """Make the context of a decoder that reads whole sequences, as in training (§3.2.3).

    Each position may attend to itself and to earlier positions. `is_causal` is used instead of a mask because
    torch then uses a faster attention kernel. Causality also hides the padding of right-padded rows from
    every real token. While decoding, `DecodeState.make_room` provides the context instead.
    """
    return Context(sequence_positions(tokens), is_causal=True)


def sequence_positions(tokens: Int[Tensor, "batch length"]) -> Int[Tensor, "1 length"]:
    length = tokens.shape[1]
    return below(torch.arange(length, device=tokens.device)[None], length)
