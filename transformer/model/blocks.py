"""One layer of a stack (§3.1): self-attention, in a `DecoderBlock` cross-attention, then feed-forward."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from transformer.kernels.casts import cast_once
from transformer.model.attention import MultiHeadAttention
from transformer.model.layers import PostNorm
from transformer.model.masks import Context


class TransformerBlock(nn.Module):
    """Self-attention, then the feed-forward network, each with its residual connection and LayerNorm.

    `residual` is called once per sub-layer and returns the `PostNorm` or `PreNorm` around that sub-layer. The
    context that the stack passes in decides whether the block is a layer of an encoder or of a decoder.
    """

    def __init__(
        self,
        self_attention: MultiHeadAttention,
        feed_forward: nn.Module,
        residual: Callable[[], PostNorm],
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.feed_forward = feed_forward
        self.around_self_attention = residual()
        self.around_feed_forward = residual()

    def forward(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.around_self_attention(x, partial(self.attend_to_self, context=context))
        return self.around_feed_forward(x, self.feed_forward)

    def attend_to_self(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        """Apply self-attention to the tokens of `x` and, if there is a cache, to the cached tokens too."""
        x, positions = cast_once(x), context.positions
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
        residual: Callable[[], PostNorm],
    ) -> None:
        super().__init__(self_attention, feed_forward, residual)
        self.cross_attention = cross_attention
        self.around_cross_attention = residual()

    def forward(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.around_self_attention(x, partial(self.attend_to_self, context=context))
        x = self.around_cross_attention(x, partial(self.attend_to_memory, context=context))
        return self.around_feed_forward(x, self.feed_forward)

    def attend_to_memory(
        self, x: Float[Tensor, "batch length d_model"], context: Context
    ) -> Float[Tensor, "batch length d_model"]:
        """Apply cross-attention to the encoder's output.

        In beam search, all W hypotheses of a sentence share one encoder output. To avoid copying the encoder
        output for each hypothesis, `x` of shape (S × W, T, D), for S sentences, is viewed as (S, W × T, D).
        """
        assert context.memory is not None, "cross-attention needs a memory, the output of an encoder"
        sentences = context.memory.keys.shape[0]
        # In an empty batch, reshape cannot infer a size. Arithmetic, because `max` would not be traced.
        hypotheses = x.shape[0] // (sentences + (sentences == 0))
        queries = x.reshape(sentences, hypotheses * x.shape[1], x.shape[2])
        return self.cross_attention(queries, context.memory, mask=context.memory_mask).reshape(x.shape)
