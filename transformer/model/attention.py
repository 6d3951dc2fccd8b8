"""Scaled dot-product and multi-head attention (§3.2).

Shapes: B batch, T queries, S keys, H heads, D width; d_k and d_v are the widths of one head.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.kernels.attention import fused_attention


def attention_weights(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
    bias: Float[Tensor, "#batch #heads #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries keys"]:
    """softmax(Q Kᵀ / √d_k), the weights of equation 1; each row sums to 1.

    `mask` is True where a query may attend to a key. `is_causal` hides key s from query t if s > t, which
    assumes that the first query and the first key are at the same position. `bias`, which the paper does not
    have, is added to the scores.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    if is_causal:
        order = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~order, -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1)


def attention(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    v: Float[Tensor, "batch heads keys d_v"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
    bias: Float[Tensor, "#batch #heads #queries #keys"] | None = None,
) -> Float[Tensor, "batch heads queries d_v"]:
    """Equation 1 written out: softmax(Q Kᵀ / √d_k) V.

    The modules call `fused_attention`, which computes the same result faster; a test checks that they agree.
    """
    return attention_weights(q, k, mask=mask, is_causal=is_causal, bias=bias) @ v


class KeyValue(NamedTuple):
    """The keys and values that queries attend to, split into heads."""

    keys: Float[Tensor, "batch heads keys d_k"]
    values: Float[Tensor, "batch heads keys d_v"]


class MultiHeadAttention(nn.Module):
    """Concat(head_1 … head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (§3.2.2).

    Attends from `x` to the given keys and values, whether they come from `x` itself, from the encoder or from
    a cache. `d_k` and `d_v` can be set freely, as in Table 3; both default to d_model / num_heads.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        d_k: int | None = None,
        d_v: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.d_k = d_k or d_model // num_heads
        self.d_v = d_v or d_model // num_heads
        self.attention_dropout = dropout
        self.w_q = nn.Linear(d_model, num_heads * self.d_k, bias=bias)
        self.w_k = nn.Linear(d_model, num_heads * self.d_k, bias=bias)
        self.w_v = nn.Linear(d_model, num_heads * self.d_v, bias=bias)
        self.w_o = nn.Linear(num_heads * self.d_v, d_model, bias=bias)

    def split_heads(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch heads length _"]:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]

    def merge_heads(self, x: Float[Tensor, "batch heads length d_v"]) -> Float[Tensor, "batch length _"]:
        return x.transpose(1, 2).flatten(-2)

    def project_q(
        self,
        x: Float[Tensor, "batch queries d_model"],
        positions: Int[Tensor, "#batch queries"] | None = None,  # noqa: ARG002  (for subclasses: rotary)
    ) -> Float[Tensor, "batch heads queries d_k"]:
        """Project `x` to queries; a subclass may rotate them by their `positions`."""
        return self.split_heads(self.w_q(x))

    def project_kv(
        self,
        x: Float[Tensor, "batch keys d_model"],
        positions: Int[Tensor, "#batch keys"] | None = None,  # noqa: ARG002  (for subclasses: rotary)
    ) -> KeyValue:
        """Project `x` to keys and values; a subclass may rotate the keys by their `positions`."""
        return KeyValue(self.split_heads(self.w_k(x)), self.split_heads(self.w_v(x)))

    def score_bias(
        self,
        q: Float[Tensor, "batch heads queries d_k"],  # noqa: ARG002  (all three are for subclasses)
        positions: Int[Tensor, "#batch queries"] | None,  # noqa: ARG002
        length: int,  # noqa: ARG002
    ) -> Float[Tensor, "#batch #heads #queries keys"] | None:
        """Return a bias to add to the scores before the softmax; the paper has none.

        A subclass may return a bias for the queries at `positions` and the keys at 0 … `length` - 1. In
        cross-attention, `positions` is None. To hide a key, use a bias of -1e4, not -inf: a query whose other
        keys are all padding would then have no key left, and its softmax would be NaN.
        """
        return None

    def forward(
        self,
        x: Float[Tensor, "batch queries d_model"],
        kv: KeyValue,
        *,
        positions: Int[Tensor, "#batch queries"] | None = None,
        mask: Bool[Tensor, "#batch #heads #queries keys"] | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "batch queries d_model"]:
        q = self.project_q(x, positions)  # (B, H, T, d_k)
        dropout = self.attention_dropout if self.training else 0.0  # the fused call ignores train/eval mode
        bias = self.score_bias(q, positions, kv.keys.shape[2])
        y = fused_attention(q, kv.keys, kv.values, mask=mask, is_causal=is_causal, bias=bias, dropout=dropout)
        return self.w_o(self.merge_heads(y))

    def weights(
        self,
        x: Float[Tensor, "batch queries d_model"],
        kv: KeyValue,
        *,
        positions: Int[Tensor, "#batch queries"] | None = None,
        mask: Bool[Tensor, "#batch #heads #queries keys"] | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return the attention weights that `forward` uses, before attention dropout."""
        q = self.project_q(x, positions)
        bias = self.score_bias(q, positions, kv.keys.shape[2])
        return attention_weights(q, kv.keys, mask=mask, is_causal=is_causal, bias=bias)
