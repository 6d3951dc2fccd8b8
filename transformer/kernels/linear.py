"""Linear layers that keep a packed copy of their weight, in the layout that the CPU's kernels read fastest.

Decoding multiplies a few rows at a time by the same matrices. `F.linear` in float32 reads the matrices
unpacked. oneDNN reads a packed copy of a large matrix several times faster. If the CPU has instructions for
these types, copies in bfloat16 are faster still, and copies in 8-bit integers are the smallest
(docs/performance.md). `F.linear` is the plain version; `tests/test_packed.py` checks that the two agree.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from transformer.kernels.attention import is_recorded
from transformer.kernels.derived import Derived
from transformer.kernels.int8 import HAS_AMX, has_int8_products, int8_linear, quantized_weight

SMALLEST = 2**16
"""A matrix with fewer weights than this is not packed, because packing would save too little time."""
SMALL, FEW_ROWS = 2**17, 8
"""With fewer than `SMALL` weights and fewer than `FEW_ROWS` input rows, `F.linear` is faster."""


def packed_copy(weight: Float[Tensor, "outputs width"], *, dtype: torch.dtype) -> Any:
    """Copy `weight` into the form that `packed_linear` reads for this `dtype`."""
    if dtype == torch.int8:
        return quantized_weight(weight)
    # the layout that oneDNN chooses for inputs of 32 rows is also fast for 1 row and for 500
    return torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), 32)


def packed_linear(
    x: Float[Tensor, "*batch width"], copy: Any, bias: Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "*batch outputs"]:
    """Compute `F.linear` from a `packed_copy`, without gradients; inputs and outputs are float32."""
    if dtype == torch.int8:
        return int8_linear(x, copy, bias)
    if dtype == torch.float32:
        return packed_product(x, copy, bias)
    return packed_product(x.to(dtype), copy, None if bias is None else bias.to(dtype)).float()


def packed_product(
    x: Float[Tensor, "*batch width"], copy: Any, bias: Tensor | None, activation: str = "none"
) -> Float[Tensor, "*batch outputs"]:
    """Compute `F.linear` and an activation from a `packed_copy`; all tensors must have the same dtype.

    oneDNN applies the activation, "relu" or "gelu", to each part of the product while that part is in the
    cache.
    """
    variant = "none" if activation == "gelu" else ""  # exact, not approximated by tanh
    return torch.ops.mkldnn._linear_pointwise.default(x, copy, bias, activation, [], variant)


class PackedLinear(nn.Linear):
    """An `nn.Linear` that computes from a packed copy of its weight when no gradients are needed.

    The copy has the dtype `packed_dtype`; inputs and outputs are float32. If the weight is not a plain
    parameter, as with a parametrization or `weight_norm`, this is an ordinary `nn.Linear`.
    """

    packed_weight: Derived
    packed_dtype: torch.dtype

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch outputs"]:
        parameters, dtype = self._parameters, self.packed_dtype  # nn.Module's lookup of `self.weight` is slow
        weight = parameters.get("weight")
        if weight is None or "bias" not in parameters:  # computed, as by a parametrization
            return F.linear(x, self.weight, self.bias)
        bias = parameters["bias"]
        if can_pack(x, weight) and is_faster_packed(x.numel() // x.shape[-1], weight, dtype):
            return packed_linear(x, self.packed_weight.of(weight), bias, dtype)
        return F.linear(x, weight, bias)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLinear":
        """Free the copy of the old weight at once; `to`, `half` and similar methods call this method."""
        self.packed_weight.latest = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def can_pack(x: Tensor, *weights: Tensor) -> bool:
    """Whether a product with the input `x` may use a packed copy of these weights."""
    return (
        not is_recorded()
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0  # the packed product has no forward derivative
        and not torch.is_autocast_enabled("cpu")
        and type(x) is Tensor
        and x.dtype == torch.float32
        and x.is_cpu
        and all(map(is_float32_parameter, weights))
    )


def is_float32_parameter(weight: Tensor) -> bool:
    return (
        type(weight) is nn.Parameter  # not computed, quantized or distributed
        and weight.dtype == torch.float32
        and weight.is_cpu
        and not weight.is_inference()  # no version counter: a change would not be detected
    )


def is_faster_packed(rows: int, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether the packed product is faster than `F.linear` for an input of `rows` rows.

    For int8 the result is always True, because the number of rows in a call must not decide whether a row is
    rounded to 8 bits. For one row in float32, `F.linear` is faster with wide matrices. On Intel's CPUs, where
    `F.linear` calls MKL, it is faster with all matrices; AMX identifies the newer ones of these CPUs.
    """
    if dtype == torch.int8:
        return True
    if rows == 1 and dtype == torch.float32 and (HAS_AMX or weight.shape[1] > weight.shape[0]):
        return False
    return rows >= FEW_ROWS or weight.numel() >= SMALL


@cache
def has_packed_products(dtype: torch.dtype) -> bool:
    """Whether torch can multiply by a packed copy of this `dtype` on this CPU.

    torch can be built without oneDNN, and oneDNN has no bfloat16 for CPUs without AVX-512 or the like.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.int8:
        return has_int8_products()
    try:
        packed_linear(torch.zeros(1, 16), packed_copy(torch.zeros(16, 16), dtype=dtype), None, dtype)
    except RuntimeError:
        return False
    return True


def pack_linear_layers(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Turn the linear layers of `model` into `PackedLinear`s, except small layers and subclasses.

    Each layer remains the same object, with its parameters, hooks and other attributes. Layers that are
    packed already are packed again in `dtype`.
    """
    for module in model.modules():
        is_large = isinstance(module, nn.Linear) and module.weight.numel() >= SMALLEST
        if is_large and (type(module) is nn.Linear or type(module) is PackedLinear):
            pack(module, dtype)


def pack(linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
    """Turn this layer into a `PackedLinear` in place."""
    linear.__class__ = PackedLinear
    assert isinstance(linear, PackedLinear)
    linear.packed_weight = Derived(partial(packed_copy, dtype=dtype))
    linear.packed_dtype = dtype
