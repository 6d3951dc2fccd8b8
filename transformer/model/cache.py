"""What a decode has read so far: keys and values of the past, and each row's next position.

A row writes at its own positions, so rows of a ragged batch fill their buffers without gaps: what a pad wrote
lies behind the row's last token, where the causal mask hides it, until the next token overwrites it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transformer.model.attention import KeyValue, MultiHeadAttention
from transformer.model.masks import causal_mask


class KeyValueCache:
    """One layer's keys and values, in buffers of fixed length."""

    def __init__(
        self, keys: Float[Tensor, "batch heads room d_k"], values: Float[Tensor, "batch heads room d_v"]
    ) -> None:
        self.keys = keys
        self.values = values
        self.length = 0

    def append(self, kv: KeyValue, positions: Int[Tensor, "batch length"]) -> KeyValue:
        """Write `kv` in place at each row's own `positions`; returns the first `length` of the buffers."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.keys[rows, :, positions] = kv.keys.transpose(1, 2)
        self.values[rows, :, positions] = kv.values.transpose(1, 2)
        return KeyValue(self.keys[:, :, : self.length], self.values[:, :, : self.length])

    def select(self, rows: Int[Tensor, " chosen"]) -> "KeyValueCache":
        return KeyValueCache(self.keys.index_select(0, rows), self.values.index_select(0, rows))


class Past(NamedTuple):
    """How the layers of one causal pass see what came before: chosen once, in the stack."""

    positions: Int[Tensor, "#batch length"]
    mask: Bool[Tensor, "batch 1 length keys"] | None
    is_causal: bool
    caches: Sequence[KeyValueCache | None]


def causal_past(tokens: Int[Tensor, "batch length"], state: "DecodeState | None", num_layers: int) -> Past:
    """Without a state, whole sequences from position 0 (the fast kernel); with one, its past and `tokens`."""
    if state is not None:
        return state.extend(tokens)
    positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
    return Past(positions, None, True, [None] * num_layers)


class DecodeState:
    """The state of a decode: caches, positions and, in an encoder-decoder, the projected memory.

    `positions` (B,) counts the tokens that each row has read; `length`, a Python int, is at least the
    largest of them and says how much of the buffers attention looks at.
    """

    def __init__(
        self,
        caches: Sequence[KeyValueCache],
        positions: Int[Tensor, " batch"],
        length: int = 0,
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> None:
        self.caches = caches
        self.positions = positions
        self.length = length
        self.memory = memory
        self.memory_mask = memory_mask

    @classmethod
    def empty(
        cls,
        attentions: Sequence[MultiHeadAttention],
        batch: int,
        room: int,
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> "DecodeState":
        """A state for `batch` rows of at most `room` tokens; one cache for each self-attention."""
        caches = [empty_cache(attention, batch, room) for attention in attentions]
        positions = torch.zeros(batch, dtype=torch.int64, device=caches[0].keys.device)
        return cls(caches, positions, 0, memory, memory_mask)

    def extend(self, tokens: Int[Tensor, "batch new"]) -> Past:
        """Make room for `tokens` behind each row's own past."""
        new, room = tokens.shape[1], self.caches[0].keys.shape[2]
        if self.length + new > room:
            raise ValueError(
                f"the state has room for {room} tokens and holds {self.length}: {new} more do not fit; "
                "prefill with a larger max_length"
            )
        self.length += new
        for cache in self.caches:
            cache.length = self.length
        positions = self.positions[:, None] + torch.arange(new, device=tokens.device)
        return Past(positions, causal_mask(positions, self.length), False, self.caches)

    def advance(self, counts: Int[Tensor, " batch"] | int) -> None:
        """Count the real tokens that each row has read; pads do not move a row forward."""
        self.positions = self.positions + counts

    def select(self, rows: Int[Tensor, " chosen"]) -> "DecodeState":
        """The state of these rows, in this order; a row may be chosen more than once."""
        return DecodeState(
            [cache.select(rows) for cache in self.caches],
            self.positions.index_select(0, rows),
            self.length,
            [KeyValue(*(part.index_select(0, rows) for part in kv)) for kv in self.memory],
            None if self.memory_mask is None else self.memory_mask.index_select(0, rows),
        )


def empty_cache(attention: MultiHeadAttention, batch: int, room: int) -> KeyValueCache:
    """Buffers of the shape and type that this layer's `project_kv` makes."""
    weight = attention.w_k.weight
    with torch.no_grad():
        sample = attention.project_kv(
            weight.new_zeros(1, 1, weight.shape[1]),
            torch.zeros(1, 1, dtype=torch.int64, device=weight.device),
        )
    keys, values = (part.new_zeros(batch, part.shape[1], room, part.shape[3]) for part in sample)
    return KeyValueCache(keys, values)
