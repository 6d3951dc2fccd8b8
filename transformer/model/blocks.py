"""One layer of a stack: self-attention and feed-forward, in a decoder with cross-attention between (§3.1)."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from transformer.model.attention import MultiHeadAttention
from transformer.model.layers import PostNorm
from transformer.model.masks import Context


class TransformerBlock(nn.Module):
    """Self-attention, then the feed-forward network, each with its residual connection and LayerNorm.

    `wiring` makes the module around a sub-layer, `PostNorm` or `PreNorm`. Whether this is a layer of an
    encoder or of a decoder is up to the context that the stack gives it.
    """

    def __init__(
        self,
        self_attention: MultiHeadAttention,
        feed_forward: nn.Module,
        wiring: Callable[[], PostNorm],
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.feed_forward = feed_forward
        self.around_self_attention = wiring()
        self.around_feed_forward = wiring()

    def forward(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.around_self_attention(x, partial(self.attend_to_self, context=context))
        return self.around_feed_forward(x, self.feed_forward)

    def attend_to_self(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        """Attention to the tokens of `x`, and to earlier ones if there is a cache."""
        positions = context.positions
        kv = self.self_attention.project_kv(x, positions)
        if context.cache is not None:
            kv = context.cache.append(kv, positions)
        return self.self_attention(x, kv, positions=positions, mask=context.mask, is_causal=context.is_causal)


class DecoderBlock(TransformerBlock):
    """Masked self-attention, attention to the encoder's output, then the feed-forward network."""

    def __init__(
        self,
        self_attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention,
        feed_forward: nn.Module,
        wiring: Callable[[], PostNorm],
    ) -> None:
        super().__init__(self_attention, feed_forward, wiring)
        self.cross_attention = cross_attention
        self.around_cross_attention = wiring()

    def forward(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.around_self_attention(x, partial(self.attend_to_self, context=context))
        x = self.around_cross_attention(x, partial(self.attend_to_memory, context=context))
        return self.around_feed_forward(x, self.feed_forward)

    def attend_to_memory(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        """In a beam, rows of the same sentence are queries to one memory: (S × W, T, D) as (S, W × T, D)."""
        assert context.memory is not None, "a decoder with cross-attention is given a memory"
        queries = x.reshape(context.memory.keys.shape[0], -1, x.shape[2])
        return self.cross_attention(queries, context.memory, mask=context.memory_mask).reshape(x.shape)
