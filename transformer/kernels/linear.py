"""Linear layers that keep a packed copy of their weight, in the layout that the CPU's kernels read fastest.

Decoding multiplies a few rows at a time by the same matrices. `F.linear` in float32 reads them unpacked.
oneDNN reads a packed copy of a large matrix several times faster, and a packed copy in bfloat16 faster still
if the CPU has instructions for it (docs/performance.md).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from transformer.kernels.attention import is_recorded

SMALLEST = 2**16
"""The number of weights that a matrix must have for packing to be worthwhile."""
SMALL, FEW_ROWS = 2**17, 8
"""If a call has both fewer weights and fewer rows than these, the overhead of packing exceeds its gain."""


class Packed(NamedTuple):
    """A packed copy, and what identifies the weight that it was made from."""

    copy: Tensor
    weight: Tensor
    alias: Tensor
    """Keeps the weight's storage alive, so that no new storage can reuse its address."""
    address: int
    version: int


class PackedWeight:
    """The packed copy of a weight, made on first use and again whenever the weight has changed.

    Changes are detected as in autograd, by the parameter's version counter, and by comparing the parameter
    and the address of its storage. A write through `weight.data` after the first call is not detected.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.latest: Packed | None = None

    def of(self, weight: Tensor) -> Tensor:
        latest = self.latest
        if (
            latest is None
            or latest.weight is not weight
            or latest.address != weight.data_ptr()
            or latest.version != weight._version
        ):
            alias = weight.detach()
            # the layout is chosen for 32 rows; it is as fast for 1 row and for 500
            copy = torch.ops.mkldnn._reorder_linear_weight(alias.to(self.dtype), 32)
            self.latest = latest = Packed(copy, weight, alias, weight.data_ptr(), weight._version)
        return latest.copy

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed copy, which cannot be copied or pickled; the next call makes a new one."""
        return self.__dict__ | {"latest": None}


class PackedLinear(nn.Linear):
    """An `nn.Linear` that computes from a packed copy of its weight when no gradients are needed.

    The copy has the dtype of `packed_weight`; inputs and outputs are float32. If the weight is not a plain
    parameter, as with a parametrization or `weight_norm`, this is an ordinary `nn.Linear`.
    """

    packed_weight: PackedWeight

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch outputs"]:
        weight, bias = self.weight, self.bias  # once: nn.Module's lookup is slow
        if is_recorded() or not can_pay(x, weight):
            return F.linear(x, weight, bias)
        packed_weight = self.packed_weight
        packed, dtype = packed_weight.of(weight), packed_weight.dtype
        product = torch.ops.mkldnn._linear_pointwise.default
        if dtype == torch.float32:
            return product(x, packed, bias, "none", [], "")
        coarse_bias = None if bias is None else bias.to(dtype)
        return product(x.to(dtype), packed, coarse_bias, "none", [], "").float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLinear":
        """Called by `to`, `half` and so on; frees the copy of the old weight at once."""
        self.packed_weight.latest = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def can_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether this call can use a packed copy and is faster with it."""
    return (
        (weight.numel() >= SMALL or x.numel() >= FEW_ROWS * x.shape[-1])
        and type(x) is Tensor
        and type(weight) is nn.Parameter  # not computed, quantized or distributed
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and weight.is_cpu
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0  # the packed product has no forward derivative
        and not torch.is_autocast_enabled("cpu")
        and not weight.is_inference()  # no version counter: a change would not be detected
    )


def pack_linear_layers(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Turn the linear layers of `model` into packed ones, except small ones and subclasses.

    Each layer remains the same object, with its parameters, hooks and other attributes.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= SMALLEST:
            pack(module, dtype)


def pack(linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
    """Turn this layer into a `PackedLinear` in place."""
    linear.__class__ = PackedLinear
    assert isinstance(linear, PackedLinear)
    linear.packed_weight = PackedWeight(dtype)
