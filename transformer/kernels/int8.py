"""Matrix products of 8-bit integers: weights scaled per output channel, activations per row.

`dequantized_linear` is the plain version; `tests/test_int8.py` checks that the two agree. The products are
exact, and every row has its own scale, so a row's result does not depend on the rows next to it.

`torch._int_mm` multiplies plain int8 tensors and is what torchao builds on. Torch's quantized tensor types,
and with them `torch.ops.quantized`, are to be removed (docs/performance.md compares all of them).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int8
from torch import Tensor

LARGEST = 127
"""Of a quantized number; -128 is not used, so that the scale is the same on both sides of 0."""

FACTOR = torch.tensor(float(LARGEST))
"""`LARGEST` as a tensor: torch takes longer to multiply by a number of Python's than by this."""
LARGE = 2**20
"""A matrix with at least this many weights is also kept packed, for products of few rows."""
LEAST_ROWS, FEW_ROWS = 2, 64
"""The numbers of rows for which the product of the packed matrix is the faster one."""
ZERO = 128
"""What 0 becomes if the range of a signed byte is shifted to that of an unsigned one."""


class Int8Weight(NamedTuple):
    """A quantized weight: row i of the original is `matrix[:, i] * scales[i] * LARGEST`."""

    matrix: Int8[Tensor, "width outputs"]
    scales: Float[Tensor, " outputs"]
    packed: Tensor | None
    """The same matrix in oneDNN's own layout, if it is `LARGE`."""
    zeros: Int[Tensor, " outputs"]


def quantized_weight(weight: Float[Tensor, "outputs width"]) -> Int8Weight:
    """Each row of `weight` as 8-bit integers times a scale of its own."""
    scales = weight.abs().amax(dim=1) / LARGEST
    divisor = scales.clamp(min=torch.finfo(scales.dtype).tiny)  # a row of zeros has the scale 0
    matrix = (weight / divisor[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(matrix, None) if matrix.numel() >= LARGE else None
    return Int8Weight(matrix.t(), scales / LARGEST, packed, torch.zeros_like(scales, dtype=torch.int64))


def int8_linear(
    x: Float[Tensor, "*batch width"], weight: Int8Weight, bias: Float[Tensor, " outputs"] | None
) -> Float[Tensor, "*batch outputs"]:
    """`F.linear` with the quantized weight, and with `x` quantized row by row."""
    rows = x.reshape(-1, x.shape[-1])
    largest = rows.abs().amax(dim=1, keepdim=True)
    # a row of zeros becomes 0 / 0, arbitrary integers, and is then multiplied by its `largest`, 0
    quantized = (rows / largest).mul_(FACTOR).round_().char()
    y = scaled_product(quantized, weight).mul_(largest)
    if bias is not None:
        y.add_(bias)
    return y.view(*x.shape[:-1], y.shape[1])


def scaled_product(rows: Int8[Tensor, "rows width"], weight: Int8Weight) -> Float[Tensor, "rows outputs"]:
    """The exact product of the integers, times the weight's scales, by the faster of two operators.

    For several rows, `_int_mm` first copies the matrix into the layout that `packed` already has; for few
    rows and a large matrix, that takes longer than the product. The operator for packed matrices is fast only
    with unsigned rows, which oneDNN shifts back. Both give the same numbers.
    """
    if weight.packed is None or not LEAST_ROWS <= rows.shape[0] <= FEW_ROWS:
        return torch._int_mm(rows, weight.matrix).float().mul_(weight.scales)
    unsigned = rows.view(torch.uint8).bitwise_xor(ZERO)
    product = torch.ops.onednn.qlinear_pointwise.default
    factors = unsigned, 1.0, ZERO, weight.packed, weight.scales, weight.zeros
    return product(*factors, None, 1.0, 0, torch.float32, "none", [], "")  # no bias, scale or activation


def dequantized_linear(
    x: Float[Tensor, "*batch width"],
    weight: Float[Tensor, "outputs width"],
    bias: Float[Tensor, " outputs"] | None,
) -> Float[Tensor, "*batch outputs"]:
    """The plain version of `int8_linear`: the same rounding, and products of ordinary numbers."""
    return F.linear(as_quantized(x), as_quantized(weight), bias)


def as_quantized(matrix: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Each row rounded to the nearest multiple of 1/127 of its largest absolute value."""
    scale = matrix.abs().amax(dim=-1, keepdim=True) / LARGEST
    return torch.where(scale > 0, (matrix / scale).round() * scale, 0)


def has_int8_products() -> bool:
    """Whether torch multiplies 8-bit integers fast, and exactly, on this CPU.

    Without VNNI or AMX, x86 adds pairs of 8-bit products in 16 bits, which is slow or inexact; on other
    CPUs torch has no fast product of this kind.
    """
    return (
        hasattr(torch, "_int_mm")
        and hasattr(torch.ops.onednn, "qlinear_pointwise")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and (torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported())
    )
