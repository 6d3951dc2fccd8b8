"""Linear layers whose weights also stand in the order that the CPU's matrix kernels like best.

A decode multiplies a few rows at a time by the same matrices. `F.linear` in float32 reads them as they are;
oneDNN reads a packed copy of a large one several times faster, and one in bfloat16 faster still where the CPU
has instructions for it (docs/performance.md).
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
"""Weights of a matrix from which packing pays."""
SMALL, FEW_ROWS = 2**17, 8
"""A matrix of fewer weights is read as it is for fewer rows: then the call costs more than the product."""


class Packed(NamedTuple):
    """A packed copy, and the weight that it was made from."""

    copy: Tensor
    weight: Tensor
    alias: Tensor
    """Keeps the weight's storage, so that no other storage can have its address."""
    address: int
    version: int


class PackedWeight:
    """The packed copy of a weight: made when it is first asked for, and again when the weight has changed.

    A change is noticed as autograd notices it: by the parameter's version, or by another parameter or storage
    in its place. What is written through `weight.data` after the first call goes unseen.
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
            # 32 rows: what the order is chosen for; it serves 1 and 500 as well
            copy = torch.ops.mkldnn._reorder_linear_weight(alias.to(self.dtype), 32)
            self.latest = latest = Packed(copy, weight, alias, weight.data_ptr(), weight._version)
        return latest.copy

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: not the packed copy, which cannot be, and is soon made again."""
        return self.__dict__ | {"latest": None}


class PackedLinear(nn.Linear):
    """An `nn.Linear` that without gradients computes from a packed copy of its weight.

    The copy has the type of `packed_weight`; inputs and outputs are float32. Where the weight is not a plain
    parameter, as with a parametrization or `weight_norm`, it computes as any `nn.Linear`.
    """

    packed_weight: PackedWeight

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch outputs"]:
        weight, bias = self.weight, self.bias  # once: with one sentence, nn.Module's lookup counts
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
        """To another device or type: the copy of the old weight is not kept until the next call."""
        self.packed_weight.latest = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def can_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether this call may use a packed copy, and gains by it."""
    return (
        (weight.numel() >= SMALL or x.numel() >= FEW_ROWS * x.shape[-1])
        and type(x) is Tensor
        and type(weight) is nn.Parameter  # nothing that is computed, quantized or distributed
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and weight.is_cpu
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0  # the packed product has no forward derivative
        and not torch.is_autocast_enabled("cpu")
        and not weight.is_inference()  # it has no version: a change would go unseen
    )


def pack_linear_layers(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Make packed layers of the linear layers of `model`, except for tiny ones and subclasses.

    A layer stays the object that it is, with its parameters, hooks and whatever else is attached to it.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= SMALLEST:
            pack(module, dtype)


def pack(linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
    """Make a `PackedLinear` of this layer."""
    linear.__class__ = PackedLinear
    assert isinstance(linear, PackedLinear)
    linear.packed_weight = PackedWeight(dtype)
