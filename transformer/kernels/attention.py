"""Equation 1, computed by the fastest method on each device; `attention` is the definition."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def fused_attention(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    v: Float[Tensor, "batch heads keys d_v"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries d_v"]:
    """`attention`, with dropout on the weights.

    Uses `scaled_dot_product_attention`, except on a CPU with gradients, where its backward pass takes several
    times as long as plain matrix products (`benchmarks/attention_kernels.py`). An exported or traced graph
    always uses it, because the graph may run on other devices, and because `torch.jit.trace` compares the
    graph with a run without gradients.
    """
    if q.device.type == "cpu" and torch.is_grad_enabled() and not is_exporting():
        weights = keys_first_scores(q, k, mask=mask, is_causal=is_causal).softmax(dim=-2)  # (B, H, S, T)
        return F.dropout(weights, dropout).transpose(-2, -1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, dropout_p=dropout)


def keys_first_scores(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "batch heads keys queries"]:
    """Q Kᵀ / √d_k, masked and transposed: keys x queries.

    On a CPU, a softmax over rows of fewer than 16 keys takes nearly four times as long as one over columns,
    which is vectorised across the columns (`benchmarks/attention_kernels.py`).
    """
    scores = k @ (q / math.sqrt(q.shape[-1])).transpose(-2, -1)  # (B, H, S, T)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(-1)
        scores = scores + minus_infinity(hidden)
    if mask is not None:
        scores = scores + minus_infinity(~mask.transpose(-2, -1))
    return scores


def minus_infinity(hidden: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """-inf where `hidden`, else 0. Adding it is cheaper than `masked_fill`, forward and backward."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -math.inf)


def is_exporting() -> bool:
    """Whether `torch.export` or `torch.jit.trace` is recording the computation."""
    return torch.compiler.is_exporting() or is_tracing()


def is_recorded() -> bool:
    """Whether the computation becomes a graph: compiled, exported or traced."""
    return torch.compiler.is_compiling() or is_tracing()


def is_tracing() -> bool:
    return torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
