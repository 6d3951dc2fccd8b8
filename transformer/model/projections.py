"""Computes the queries, keys and values of self-attention in one matrix product, for inference only.

Readers of the paper can skip this file. `MultiHeadAttention` in `attention.py` is the plain version, with
three products; `tests/test_projections.py` checks that the two agree.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.kernels.derived import Derived
from transformer.kernels.linear import SMALL, SMALLEST, PackedLinear, can_pack, packed_copy, packed_linear
from transformer.model.attention import KeyValue, MultiHeadAttention


class JoinedAttention(MultiHeadAttention):
    """A `MultiHeadAttention` that projects queries together with the keys and values of the same tokens.

    `project_kv` keeps the queries until `forward` ends, and `project_q` returns the kept queries if it is
    given the same tensor. Parameters, hooks and results are those of `MultiHeadAttention`. If gradients are
    needed, or if a projection is not a plain linear layer, this class falls back to the code of
    `MultiHeadAttention`.
    """

    joined: Derived
    joined_dtype: torch.dtype | None
    """The dtype of the packed copy; None if the joined matrix is not packed."""
    queries: tuple[Tensor, Tensor] | None = None
    """The tensor given to the latest `project_kv`, and the queries computed from it."""

    def project_kv(
        self,
        x: Float[Tensor, "batch keys d_model"],
        positions: Int[Tensor, "#batch keys"] | None = None,
    ) -> KeyValue:
        parameters = plain_parameters(self)
        if parameters is None or not can_pack(x, *parameters):
            return super().project_kv(x, positions)
        copy, bias = self.joined.of(*parameters)
        if self.joined_dtype is None:
            y = F.linear(x, copy, bias)
        else:
            y = packed_linear(x, copy, bias, self.joined_dtype)
        y = y.unflatten(-1, (3 * self.num_heads, -1))  # type: ignore[no-untyped-call]
        q, keys, values = y.transpose(1, 2).chunk(3, dim=1)  # (B, 3H, T, d_k) -> 3 x (B, H, T, d_k)
        self.queries = x, q
        return KeyValue(keys, values)

    def project_q(
        self,
        x: Float[Tensor, "batch queries d_model"],
        positions: Int[Tensor, "#batch queries"] | None = None,
    ) -> Float[Tensor, "batch heads queries d_k"]:
        kept = self.queries
        if kept is not None and kept[0] is x:
            return kept[1]
        return super().project_q(x, positions)

    def forward(self, *arguments: Any, **keywords: Any) -> Float[Tensor, "batch queries d_model"]:
        try:
            return super().forward(*arguments, **keywords)
        finally:
            self.queries = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "JoinedAttention":
        """Free the copy of the old weights at once; `to`, `half` and similar methods call this method."""
        self.joined.latest = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"queries": None}


def plain_parameters(attention: MultiHeadAttention) -> tuple[Tensor, ...] | None:
    """Return three weights, then any biases; None if a layer is not plain, or if only some have a bias."""
    layers = attention.w_q, attention.w_k, attention.w_v
    if not all(is_plain(layer, nn.Linear, PackedLinear) for layer in layers):
        return None
    weights = tuple(layer.weight for layer in layers)
    biases = tuple(layer.bias for layer in layers if layer.bias is not None)
    return weights + biases if len(biases) in (0, 3) else None


def is_plain(module: nn.Module, *types: type) -> bool:
    """Whether a module has exactly one of these types, no hooks, and no `forward` set on the object."""
    own = module.__dict__
    return type(module) in types and not (
        own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own
    )


def joined_copy(
    *parameters: Tensor, dtype: torch.dtype | None
) -> tuple[Any, Float[Tensor, " outputs"] | None]:
    """Join the weights, and the biases if there are any; pack the joined weight unless `dtype` is None."""
    weight = torch.cat(parameters[:3])
    bias = torch.cat(parameters[3:]) if len(parameters) > 3 else None
    return weight if dtype is None else packed_copy(weight, dtype=dtype), bias


def join_projections(model: nn.Module, dtype: torch.dtype | None = torch.float32) -> None:
    """Turn the self-attention of each block of `model` into a `JoinedAttention`, in place.

    The joined matrices are packed in `dtype`, or not packed if `dtype` is None. Subclasses of
    `MultiHeadAttention` are not changed, because they may compute Q, K and V in another way. Attention whose
    keys and values have different widths is not changed either.
    """
    for block in model.modules():
        attention = getattr(block, "self_attention", None)
        if not (type(attention) is MultiHeadAttention or type(attention) is JoinedAttention):
            continue
        if attention.d_k == attention.d_v:
            join(attention, dtype)


def join(attention: MultiHeadAttention, dtype: torch.dtype | None = torch.float32) -> None:
    """Turn this module into a `JoinedAttention` in place."""
    attention.__class__ = JoinedAttention
    assert isinstance(attention, JoinedAttention)
    size = attention.w_q.weight.numel()
    # in int8, only matrices that would be rounded alone, because a hook switches to the three products
    is_packed = size >= SMALLEST if dtype == torch.int8 else size * 3 >= SMALL
    attention.joined_dtype = dtype if is_packed else None
    attention.joined = Derived(partial(joined_copy, dtype=attention.joined_dtype))
