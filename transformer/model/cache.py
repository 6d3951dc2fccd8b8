"""The key-value cache, and the decoding state: the tokens read so far and each row's next position.

A decoder reads new tokens in three steps. The stack calls `DecodeState.make_room`, which reserves slots for
the tokens and returns a `Context` that says what they may attend to. Each block calls
`KeyValueCache.append`, which fills the slots of its layer. The model calls `DecodeState.advance`, which
counts the tokens that were not padding.

A batch is ragged if its rows have read different numbers of tokens. Even in a ragged batch the buffers have
no gaps, because each row writes at its own positions. The keys and values of padding are written after the
row's last token, where the causal mask hides them until the row's next real tokens overwrite them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transformer.kernels.positions import below
from transformer.model.attention import KeyValue, MultiHeadAttention
from transformer.model.masks import Context, causal_mask


class KeyValueCache:
    """One layer's keys and values, in buffers of fixed length."""

    def __init__(
        self, keys: Float[Tensor, "batch heads room d_k"], values: Float[Tensor, "batch heads room d_v"]
    ) -> None:
        self.keys = keys
        self.values = values
        self.length = 0
        self.is_ragged = False

    @property
    def room(self) -> int:
        """The number of slots in the buffers."""
        return self.keys.shape[2]

    def append(self, kv: KeyValue, positions: Int[Tensor, "#batch length"]) -> KeyValue:
        """Write `kv` into the reserved slots, at each row's `positions`: the second of the three steps.

        Returns the first `length` slots of the buffers, which hold earlier tokens and the new ones.
        """
        count = positions.shape[1]
        for buffer, part in ((self.keys, kv.keys), (self.values, kv.values)):
            new = buffer.narrow(2, self.length - count, count)
            if self.is_ragged:
                # A short row leaves some of its slots unwritten. The mask gives them weight 0, but if the
                # uninitialised memory happens to hold a NaN, 0 × NaN would still make the output NaN.
                new.zero_()
                rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
                buffer[rows, :, positions] = part.transpose(1, 2)
            else:
                new.copy_(part)
        return KeyValue(self.keys[:, :, : self.length], self.values[:, :, : self.length])

    def select(self, rows: Int[Tensor, " chosen"]) -> "KeyValueCache":
        """Return a cache of these rows in new buffers; only the slots that are in use are copied."""
        chosen = KeyValueCache(*(copy_rows(part, rows, self.length) for part in (self.keys, self.values)))
        chosen.length = self.length
        return chosen


def copy_rows(
    buffer: Float[Tensor, "batch heads room width"], rows: Int[Tensor, " chosen"], length: int
) -> Float[Tensor, "chosen heads room width"]:
    """Copy the first `length` slots of the chosen rows to a new buffer with the same number of slots."""
    copy = buffer.new_empty(rows.shape[0], *buffer.shape[1:])
    with torch.no_grad():  # no gradients flow through a cache
        torch.index_select(buffer[:, :, :length], 0, rows, out=copy[:, :, :length])
    return copy


class DecodeState:
    """The decoding state: caches, positions and, in an encoder-decoder, the projected memory.

    Each layer has a `KeyValueCache`, or a custom object with the same `room`, `append` and `select`.
    `positions` (B,) counts the tokens that each row has read. `length`, a Python int, is the number of slots
    that attention reads; it is at least the largest of the `positions`. `is_ragged` is False as long as all
    rows have read exactly `length` tokens. The rows of one sentence are adjacent and share one memory: with S
    memories, the B rows form S groups of B / S rows. If `memory_mask` is None, no memory contains padding.
    """

    def __init__(
        self,
        caches: Sequence[Any],
        positions: Int[Tensor, " batch"],
        length: int = 0,
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None = None,
        is_ragged: bool = False,
    ) -> None:
        self.caches = caches
        self.positions = positions
        self.length = length
        self.memory = memory
        self.memory_mask = memory_mask
        self.is_ragged = is_ragged

    @classmethod
    def empty(
        cls,
        attentions: Sequence[MultiHeadAttention],
        batch: int,
        room: int,
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> "DecodeState":
        """Make a state for `batch` rows of at most `room` tokens, with one cache per self-attention."""
        caches = [empty_cache(attention, batch, room) for attention in attentions]
        positions = torch.zeros(batch, dtype=torch.int64, device=caches[0].keys.device)
        return cls(caches, positions, 0, memory, memory_mask)

    def make_room(self, tokens: Int[Tensor, "batch new"]) -> Context:
        """Reserve slots for `tokens`: the first of the three steps.

        Returns a `Context` with the positions of `tokens` and the slots that they may attend to. This method
        changes the state, so call it once per forward pass. Raises `ValueError` if the buffers are too short;
        the state is then unchanged.
        """
        new, room = tokens.shape[1], self.caches[0].room
        if self.length + new > room:
            raise ValueError(
                f"the state has room for {room} tokens and holds {self.length}: {new} more do not fit; "
                "prefill with a larger max_length"
            )
        is_fresh = self.length == 0
        self.length += new
        for cache in self.caches:
            cache.length, cache.is_ragged = self.length, self.is_ragged
        starts = self.positions if self.is_ragged else self.positions[:1]
        positions = below(starts[:, None] + torch.arange(new, device=tokens.device), self.length)
        if new == 1 and not self.is_ragged:  # the last token of each row may attend to every slot
            return Context(positions)
        if is_fresh:  # as in training, because a mask for a long prompt would be large and slow
            return Context(positions, is_causal=True)
        return Context(positions, causal_mask(positions, self.length))

    def advance(self, counts: Int[Tensor, " batch"] | int) -> None:
        """Move each row's position forward by the number of tokens just read: the third of the three steps.

        `counts` leaves out padding, which does not move a row forward.
        """
        self.positions = self.positions + counts
        self.is_ragged |= isinstance(counts, Tensor)

    def select(self, rows: Int[Tensor, " chosen"]) -> "DecodeState":
        """Return the state of these rows, in this order; a row may be chosen more than once.

        In an encoder-decoder, this method reads the values of `rows` to see which rows share a memory. On a
        GPU this forces a synchronization, which `select_beams` avoids.
        """
        if not self.memory:
            return self.with_rows(rows, self.memory, self.memory_mask)
        count = self.memory[0].keys.shape[0]
        sentences = rows // (self.positions.shape[0] // count)
        groups, sizes = sentences.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
        if (sizes == sizes[0]).all():  # adjacent rows can share a memory if all groups are equally large
            sentences = groups
        is_unchanged = torch.equal(sentences, torch.arange(count, device=rows.device))
        return self.with_rows(rows, *self.select_memory(None if is_unchanged else sentences))

    def select_beams(
        self, rows: Int[Tensor, "sentences beam"], sentences: Int[Tensor, " sentences"] | None
    ) -> "DecodeState":
        """Do the same as `select`, if the caller knows which rows share a memory: all rows in `rows[i]`.

        `sentences` are the memories to keep, in this order; None keeps all of them as they are.
        """
        if type(self).select is not DecodeState.select:  # the subclass may have more state to select
            return self.select(rows.flatten())
        return self.with_rows(rows.flatten(), *self.select_memory(sentences))

    def select_memory(
        self, sentences: Int[Tensor, " chosen"] | None
    ) -> tuple[Sequence[KeyValue], Bool[Tensor, "sentences 1 1 source"] | None]:
        memory, mask = self.memory, self.memory_mask
        if sentences is None or not memory:
            return memory, mask
        chosen = [KeyValue(*(part.index_select(0, sentences) for part in kv)) for kv in memory]
        return chosen, None if mask is None else mask.index_select(0, sentences)

    def with_rows(
        self,
        rows: Int[Tensor, " chosen"],
        memory: Sequence[KeyValue],
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None,
    ) -> "DecodeState":
        """Return a state with copies of these rows of the caches, and with the given memory."""
        caches = [cache.select(rows) for cache in self.caches]
        positions = self.positions.index_select(0, rows)
        return DecodeState(caches, positions, self.length, memory, memory_mask, self.is_ragged)


def empty_cache(attention: MultiHeadAttention, batch: int, room: int) -> KeyValueCache:
    """Make empty buffers for this layer's keys and values, in the shape and dtype of its `project_kv`."""
    # not `w_k.weight`, which is not a parameter under `weight_norm` or another parametrization
    like = next(attention.w_k.parameters())
    with torch.no_grad():
        example = attention.project_kv(
            like.new_zeros(1, 1, attention.w_k.weight.shape[1]),
            torch.zeros(1, 1, dtype=torch.int64, device=like.device),
        )
    keys, values = (part.new_zeros(batch, part.shape[1], room, part.shape[3]) for part in example)
    return KeyValueCache(keys, values)
