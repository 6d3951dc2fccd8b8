"""Computes the activation of the feed-forward network inside its first matrix product, for inference only.

Readers of the paper can skip this file. `FeedForward` in `layers.py` is the plain version;
`tests/test_fused_feed_forward.py` checks that the two agree.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from transformer.kernels.dropout import Dropout
from transformer.kernels.linear import PackedLinear, can_pack, is_faster_packed, packed_product
from transformer.model.layers import FeedForward
from transformer.model.projections import is_plain

FUSED: tuple[tuple[Callable[[Tensor], Tensor], str], ...] = ((F.relu, "relu"), (F.gelu, "gelu"))
"""The activations that oneDNN can compute, and their names there."""


class FusedFeedForward(FeedForward):
    """A `FeedForward` that computes W1 and the activation in one operation, in the dtype of packed weights.

    In bfloat16, the inner values stay bfloat16, whereas a `FeedForward` with packed layers casts them to
    float32 for the activation, and back for W2. Parameters and hooks are those of `FeedForward`. If gradients
    are needed, or if a part is not plain (`is_plain`), this class falls back to the code of `FeedForward`.
    """

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        w_1, w_2, activation = self.w_1, self.w_2, fused_name(self.activation)
        is_inference = is_plain(self.dropout, Dropout) and not (self.dropout.training and self.dropout.p)
        if activation is None or not is_inference or not can_multiply(x, w_1) or not can_multiply(x, w_2):
            return super().forward(x)
        assert isinstance(w_1, PackedLinear)
        assert isinstance(w_2, PackedLinear)
        copies = [layer.packed_weight.of(layer.weight) for layer in (w_1, w_2)]
        inner = packed_product(x.to(w_1.packed_dtype), copies[0], w_1.bias.to(w_1.packed_dtype), activation)
        return packed_product(inner, copies[1], w_2.bias.to(inner.dtype)).float()


def can_multiply(x: Tensor, linear: nn.Module) -> bool:
    """Whether this layer's packed copy may be used for an input like `x`, and is faster than `F.linear`."""
    return (
        isinstance(linear, PackedLinear)
        and is_plain(linear, PackedLinear)
        and linear.bias is not None
        and can_pack(x, linear.weight)
        and is_faster_packed(x.numel() // x.shape[-1], linear.weight, linear.packed_dtype)
    )


def fused_name(activation: Callable[[Tensor], Tensor]) -> str | None:
    """Return oneDNN's name for this function, or None if oneDNN does not have the function."""
    return next((name for function, name in FUSED if function is activation), None)


def fuse_feed_forward(model: nn.Module) -> None:
    """Turn each `FeedForward` of packed layers into a `FusedFeedForward`, in place.

    Call this function after `pack_linear_layers`. It does not change subclasses, nor networks in 8-bit
    integers, whose inner values can be rounded only when all the values of a row are known.
    """
    for module in model.modules():
        if type(module) is FeedForward or type(module) is FusedFeedForward:
            is_fused = is_packed(module.w_1) and is_packed(module.w_2)
            module.__class__ = FusedFeedForward if is_fused else FeedForward


def is_packed(linear: nn.Module) -> bool:
    return type(linear) is PackedLinear and linear.packed_dtype != torch.int8 and linear.bias is not None
