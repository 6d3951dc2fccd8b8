"""Computes equation 1 by the fastest method on each device.

`attention` in `model/attention.py` is the plain version; `tests/test_attention.py` checks that the two agree.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.weak import WeakTensorKeyDictionary

ALIGNMENT = 8
"""Every row of a bias should start at a multiple of this number of elements. Otherwise torch's
memory-efficient kernel copies the bias in each call."""

LONG, LONG_IN_FLOAT32 = 2**18, 2**10
"""On a CPU, the fused call with its backward pass is at least as fast as plain matrix products if a head has
at least this many weights: 32 queries × 32 keys in float32 without bias and dropout, otherwise 512 × 512."""


def fused_attention(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    v: Float[Tensor, "batch heads keys d_v"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
    bias: Float[Tensor, "#batch #heads #queries #keys"] | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries d_v"]:
    """Compute `attention` of `model/attention.py`, with optional dropout on the weights.

    Uses `scaled_dot_product_attention`, unless gradients are needed and `is_faster_plain` is true. An
    exported or traced graph always uses the fused call, because the graph may run on other devices, and
    because `torch.jit.trace` compares the graph with a run without gradients.

    The fused call has no second derivatives on a CPU. To compute them, call this function inside
    `with torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.
    """
    has_gradients = torch.is_grad_enabled() and not is_exporting()
    if has_gradients and is_faster_plain(q, k, has_extras=bias is not None or dropout > 0):
        scores = keys_first_scores(q, k, mask=mask, is_causal=is_causal)
        if bias is not None:
            scores = scores + bias.transpose(-2, -1)
        weights = scores.softmax(dim=-2)  # (B, H, S, T)
        return F.dropout(weights, dropout).transpose(-2, -1).to(v.dtype) @ v
    if bias is not None:  # the fused call accepts only one of bias, mask and `is_causal`
        if is_causal:
            order = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
            mask = order if mask is None else mask & order
        merged = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, -math.inf)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=merged, dropout_p=dropout)
    added = mask if mask is None or is_recorded() else bias_of(mask, q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added, is_causal=is_causal, dropout_p=dropout)


def is_faster_plain(
    q: Float[Tensor, "batch heads queries d_k"], k: Float[Tensor, "batch heads keys d_k"], *, has_extras: bool
) -> bool:
    """Whether plain matrix products are faster than the fused call with its backward pass.

    They are faster on a CPU, if a head has few weights (`benchmarks/attention_kernels.py`). In bfloat16 and
    float16, the fused backward pass takes up to ten times as long as the plain one. The backward
    pass is not fused with a bias or dropout, and forward-mode derivatives are never fused. For long
    sequences, the plain products would need memory that grows with the square of the length.
    """
    is_coarse = q.dtype in (torch.bfloat16, torch.float16)
    has_forward_derivative = forward_ad._current_level >= 0
    limit = LONG if has_extras or is_coarse or has_forward_derivative else LONG_IN_FLOAT32
    return q.device.type == "cpu" and q.shape[2] * k.shape[2] < limit


def keys_first_scores(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch heads keys d_k"],
    *,
    mask: Bool[Tensor, "#batch #heads #queries #keys"] | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "batch heads keys queries"]:
    """Compute Q Kᵀ / √d_k, masked and transposed: rows are keys, and columns are queries.

    On a CPU, with fewer than 16 keys, a softmax over rows takes nearly four times as long as a softmax over
    columns, because only a softmax over columns is vectorised (`benchmarks/attention_kernels.py`).
    """
    scores = k @ (q / math.sqrt(q.shape[-1])).transpose(-2, -1)  # (B, H, S, T)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if is_causal:
        order = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu()
        scores = scores + as_bias(order, torch.float32)
    if mask is not None:
        scores = scores + bias_of(mask, torch.float32).transpose(-2, -1)
    return scores


class MadeBias(NamedTuple):
    """The bias made from a mask, and the mask's version counter at that time (None in inference mode)."""

    bias: Tensor
    version: int | None


MADE = WeakTensorKeyDictionary()
"""For each mask that still exists, the bias that was last made from it."""


def bias_of(mask: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return `as_bias(mask, dtype)`, computed once for all layers that are given the same mask.

    If the mask has been modified in place, the bias is computed again. Writes to a mask that was created in
    inference mode are not detected, because such a mask has no version counter.
    """
    if is_recorded():  # compilers remove repeated computations themselves
        return as_bias(mask, dtype)
    version = None if mask.is_inference() else mask._version
    made: MadeBias | None = MADE.get(mask)  # type: ignore[no-untyped-call]
    if (
        made is None
        or made.version != version
        or made.bias.dtype != dtype
        or (made.bias.is_inference() and not torch.is_inference_mode_enabled())  # autograd cannot save it
    ):
        MADE[mask] = made = MadeBias(aligned(as_bias(mask, dtype)), version)
    return made.bias


def as_bias(mask: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return 0 where `mask` is True, else -inf; it is faster to add this bias than to use `masked_fill`."""
    return torch.where(mask, 0.0, -math.inf).to(dtype)


def aligned(bias: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the same numbers, stored so that each row starts at a multiple of `ALIGNMENT` elements."""
    keys = bias.shape[-1]
    return F.pad(bias, (0, -keys % ALIGNMENT))[..., :keys]


def is_exporting() -> bool:
    """Whether `torch.export` or `torch.jit.trace` is recording the computation."""
    return torch.compiler.is_exporting() or is_tracing()


def is_recorded() -> bool:
    """Whether the computation is being recorded as a graph: compiled, exported or traced."""
    return torch.compiler.is_compiling() or is_tracing()


def is_tracing() -> bool:
    return torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
