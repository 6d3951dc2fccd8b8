"""One layer of a stack: self-attention and feed-forward, in a decoder with cross-attention between (§3.1)."""

from collections.abc import Callable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.model.attention import KeyValue, MultiHeadAttention
from transformer.model.cache import KeyValueCache
from transformer.model.layers import PostNorm


class TransformerBlock(nn.Module):
    """Self-attention, then the feed-forward network, each inside its own wiring.

    `wiring` makes the module around a sub-layer, `PostNorm` or `PreNorm`. A mask makes this a layer of an
    encoder, `is_causal` or a cache one of a decoder.
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

    def attend_to_self(
        self,
        x: Float[Tensor, "batch length d_model"],
        *,
        positions: Int[Tensor, "#batch length"],
        mask: Bool[Tensor, "#batch 1 #length keys"] | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        def sublayer(h: Tensor) -> Tensor:
            kv = self.self_attention.project_kv(h, positions)
            if cache is not None:
                kv = cache.append(kv, positions)
            return self.self_attention(h, kv, positions=positions, mask=mask, is_causal=is_causal)

        return self.around_self_attention(x, sublayer)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        *,
        positions: Int[Tensor, "#batch length"],
        mask: Bool[Tensor, "#batch 1 #length keys"] | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.attend_to_self(x, positions=positions, mask=mask, is_causal=is_causal, cache=cache)
        return self.around_feed_forward(x, self.feed_forward)


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

    def forward(  # type: ignore[override]  # a decoder's layer needs the memory as well
        self,
        x: Float[Tensor, "batch length d_model"],
        memory: KeyValue,
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None,
        *,
        positions: Int[Tensor, "#batch length"],
        mask: Bool[Tensor, "#batch 1 #length keys"] | None = None,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.attend_to_self(x, positions=positions, mask=mask, is_causal=is_causal, cache=cache)
        x = self.around_cross_attention(x, lambda h: self.attend_to_memory(h, memory, memory_mask))
        return self.around_feed_forward(x, self.feed_forward)

    def attend_to_memory(
        self,
        x: Float[Tensor, "batch length d_model"],
        memory: KeyValue,
        memory_mask: Bool[Tensor, "sentences 1 1 source"] | None,
    ) -> Float[Tensor, "batch length d_model"]:
        """In a beam, rows of the same sentence are queries to one memory: (S × W, T, D) as (S, W × T, D)."""
        queries = x.reshape(memory.keys.shape[0], -1, x.shape[2])
        return self.cross_attention(queries, memory, mask=memory_mask).reshape(x.shape)
