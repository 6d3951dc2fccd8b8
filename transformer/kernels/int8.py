"""Matrix products of 8-bit integers: weights are scaled per output channel, activations per row.

`int8_linear` computes a linear layer with such products. `dequantized_linear` is the plain version;
`tests/test_int8.py` checks that the two agree. The products of the integers are exact, and every row has its
own scale, so a row's result does not depend on the other rows of its batch.

The products use `torch._int_mm`, which multiplies plain int8 tensors, and which torchao also uses. They do
not use `torch.ops.quantized`, because torch will remove that module together with its quantized tensor types.
docs/performance.md compares the speed of these operators.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int8
from torch import Tensor

LARGEST = 127
"""The largest quantized number. -128 is not used, so that the scale is the same on both sides of 0."""

FACTOR = torch.tensor(float(LARGEST))
"""`LARGEST` as a tensor, because torch takes longer to multiply by a Python number than by a tensor."""
LARGE = 2**20
"""A matrix with at least this many weights is also kept in packed form."""
LEAST_ROWS, FEW_ROWS = 2, 64
"""Without AMX, the packed form is faster for inputs of at least `LEAST_ROWS` and at most `FEW_ROWS` rows."""
HAS_AMX = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
"""Whether this CPU multiplies tiles of 8-bit integers; the packed form is then faster for all inputs."""
ZERO = 128
"""The unsigned byte that represents 0 when signed bytes are shifted to unsigned bytes."""


class Int8Weight(NamedTuple):
    """A quantized weight: row i of the original is `matrix[:, i] * scales[i] * LARGEST`."""

    matrix: Int8[Tensor, "width outputs"] | None
    """None if all products use `packed`, to save memory."""
    scales: Float[Tensor, " outputs"]
    packed: Tensor | None
    """The same matrix in oneDNN's own layout; None if it has fewer than `LARGE` weights."""
    zeros: Int[Tensor, " outputs"]


def quantized_weight(weight: Float[Tensor, "outputs width"]) -> Int8Weight:
    """Quantize `weight` to 8-bit integers with one scale per row."""
    scales = weight.abs().amax(dim=1) / LARGEST
    divisor = scales.clamp(min=torch.finfo(scales.dtype).tiny)  # a row of zeros has the scale 0
    matrix = (weight / divisor[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(matrix, None) if matrix.numel() >= LARGE else None
    kept = None if packed is not None and HAS_AMX else transposed(matrix)
    return Int8Weight(kept, scales / LARGEST, packed, torch.zeros_like(scales, dtype=torch.int64))


def transposed(matrix: Int8[Tensor, "outputs width"]) -> Int8[Tensor, "width outputs"]:
    """Transpose without copying, unless the width is 1, because `_int_mm` then misreads the view."""
    return matrix.t().clone(memory_format=torch.contiguous_format) if matrix.shape[1] == 1 else matrix.t()


def int8_linear(
    x: Float[Tensor, "*batch width"], weight: Int8Weight, bias: Float[Tensor, " outputs"] | None
) -> Float[Tensor, "*batch outputs"]:
    """Compute `F.linear` with the quantized weight; each row of `x` is quantized with its own scale."""
    rows = x.reshape(-1, x.shape[-1])
    largest = rows.abs().amax(dim=1, keepdim=True)
    # in a row of zeros, 0 / 0 gives arbitrary integers, but `largest` is 0, and so is the final product
    quantized = (rows / largest).mul_(FACTOR).round_().char()
    y = scaled_product(quantized, weight).mul_(largest)
    if bias is not None:
        y.add_(bias)
    return y.view(*x.shape[:-1], y.shape[1])


def scaled_product(rows: Int8[Tensor, "rows width"], weight: Int8Weight) -> Float[Tensor, "rows outputs"]:
    """Multiply the integers exactly, by the faster of two operators, then multiply by the weight's scales.

    If there are several rows, `_int_mm` first copies the matrix into the layout that `packed` already has.
    With few rows and a large matrix, copying takes longer than multiplying. With AMX, the packed operator is
    faster for any number of rows, even one. This operator is fast only with unsigned rows, so signed rows are
    shifted by `ZERO`, and oneDNN shifts the result back. Both operators give the same numbers.
    """
    is_few = LEAST_ROWS <= rows.shape[0] <= FEW_ROWS
    if weight.matrix is not None and not (is_few and weight.packed is not None):
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
    """Compute `int8_linear` plainly: with the same rounding, but with floating-point products."""
    return F.linear(as_quantized(x), as_quantized(weight), bias)


def as_quantized(matrix: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Round the numbers of each row to multiples of 1/127 of the row's largest absolute value."""
    scale = matrix.abs().amax(dim=-1, keepdim=True) / LARGEST
    return torch.where(scale > 0, (matrix / scale).round() * scale, 0)


def has_int8_products() -> bool:
    """Whether torch multiplies 8-bit integers both fast and exactly on this CPU.

    Without VNNI or AMX, an x86 CPU adds pairs of 8-bit products in 16 bits, which is slow or inexact. On
    other CPUs, torch has no fast product of 8-bit integers.
    """
    return (
        hasattr(torch, "_int_mm")
        and hasattr(torch.ops.onednn, "qlinear_pointwise")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and (torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported())
        and multiplies_exactly()
    )


@cache
def multiplies_exactly() -> bool:
    """Whether both operators add the largest products without overflow.

    They may not although the CPU could, because `ONEDNN_MAX_CPU_ISA` can keep oneDNN from using VNNI.
    """
    matrix = torch.full((32, 256), LARGEST, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(matrix, None)
    scales, zeros = torch.ones(32), torch.zeros(32, dtype=torch.int64)
    rows = torch.full((2, 256), LARGEST, dtype=torch.int8)
    return all(
        bool((scaled_product(rows, weight) == 256 * LARGEST**2).all())
        for weight in (
            Int8Weight(matrix.t(), scales, None, zeros),
            Int8Weight(None, scales, packed, zeros),
        )
    )
