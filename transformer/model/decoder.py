"""The decoder stack (§3.1, the right half of figure 1): positions attend to themselves and earlier positions.

In an encoder-decoder, its blocks also attend to the memory, which is the encoder's output. A decoder-only
model has no memory.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.kernels.casts import cast_once
from transformer.model.attention import KeyValue
from transformer.model.blocks import TransformerBlock
from transformer.model.cache import DecodeState
from transformer.model.layers import TokenEmbedding
from transformer.model.masks import causal_context
from transformer.model.positions import require_positions


class Decoder(nn.Module):
    """Maps tokens to hidden states; `blocks` are `DecoderBlock`s if there is a memory."""

    blocks: Sequence[Any]  # an nn.ModuleList of `TransformerBlock`s or, with a memory, of `DecoderBlock`s

    def __init__(
        self, embedding: TokenEmbedding, blocks: Iterable[TransformerBlock], final_norm: nn.Module
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.final_norm = final_norm

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None = None,
        *,
        state: DecodeState | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Compute hidden states; `memory` is the list that `project_memory` returns, with one pair per layer.

        If a `state` is given, each row of `tokens` continues the sequence in the same row of the state. This
        method reserves slots for `tokens` in the state, and the blocks fill the slots with keys and values.
        After the call, the caller must pass the number of real tokens to `state.advance`.
        """
        context = causal_context(tokens) if state is None else state.make_room(tokens)
        nothing = [None] * len(self.blocks)
        caches = nothing if state is None else state.caches
        x = self.embedding(tokens, context.positions)
        for block, cache, kv in zip(self.blocks, caches, memory or nothing, strict=True):
            x = block(x, context.for_layer(cache, kv, memory_mask))
        return self.final_norm(x)

    def project_memory(self, memory: Float[Tensor, "batch source d_model"]) -> list[KeyValue]:
        """Project the encoder's output to the keys and values of each layer's cross-attention."""
        memory = cast_once(memory)
        return [block.cross_attention.project_kv(memory) for block in self.blocks]

    def new_state(
        self,
        batch: int,
        room: int,
        memory: Sequence[KeyValue] = (),
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> DecodeState:
        """Make an empty state for `batch` rows of at most `room` tokens; `memory` is as in `forward`."""
        require_positions(self.embedding.positions, room)
        attentions = [block.self_attention for block in self.blocks]
        return DecodeState.empty(attentions, batch, room, memory, memory_mask)
