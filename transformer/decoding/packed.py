"""Linear layers whose weights also stand in the order that the CPU's matrix kernels like best.

A decode multiplies a few rows at a time by the same matrices. `F.linear` in float32 reads them as they are;
oneDNN reads a packed copy of a large one several times faster, and one in bfloat16 faster still where the CPU
has instructions for it (docs/performance.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 2**16
"""Weights of a matrix from which packing pays."""
SMALL, FEW_ROWS = 2**17, 8
"""A matrix of fewer weights is read as it is for fewer rows: then the call costs more than the product."""


class PackedLinear(nn.Linear):
    """An `nn.Linear` with the same parameters, which without gradients computes from a packed copy.

    The copy has the type `dtype`; inputs and outputs are float32. It is made at the first such call, and
    again when the weight has changed.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.dtype = dtype
        self.few_numbers = FEW_ROWS * self.in_features if self.weight.numel() < SMALL else 0
        self.packed: Tensor | None = None
        self.packed_version: tuple[int, int | None] | None = None

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch outputs"]:
        weight, bias = self.weight, self.bias  # once: with one sentence, nn.Module's lookup counts
        can_pay = x.dtype == weight.dtype == torch.float32 and x.is_cpu and x.numel() >= self.few_numbers
        if not can_pay or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return F.linear(x, weight, bias)
        version = (weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self.packed_version != version:
            # 32 rows: what the order is chosen for; it serves 1 and 500 as well
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(self.dtype), 32)
            self.packed_version = version
        product = torch.ops.mkldnn._linear_pointwise.default
        if self.dtype == torch.float32:
            return product(x, self.packed, bias, "none", [], "")
        coarse_bias = None if bias is None else bias.to(self.dtype)
        return product(x.to(self.dtype), self.packed, coarse_bias, "none", [], "").float()

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: not the packed weight, which cannot be, and is soon made again."""
        return self.__dict__ | {"packed": None, "packed_version": None}


def pack_linear_layers(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Replace the linear layers of `model` by packed ones that share their parameters, but for tiny ones."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.numel() >= SMALLEST:
                setattr(parent, name, PackedLinear(child, dtype))
