"""Linear layers whose weights also stand in the order that the CPU's matrix kernels like best.

A decode multiplies a few rows at a time by the same large matrices. `F.linear` in float32 reads them as they
are; oneDNN reads a packed copy 1.2 to 5 times faster (docs/performance.md).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 2**17
"""Weights of a matrix from which packing pays."""


class PackedLinear(nn.Linear):
    """An `nn.Linear` with the same parameters, which without gradients computes from a packed copy.

    The copy is made at the first such call, and again when the weight has changed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.packed: Tensor | None = None
        self.packed_version: tuple[int, int] | None = None

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch outputs"]:
        is_plain = x.dtype == self.weight.dtype == torch.float32 and x.device.type == "cpu"
        if not is_plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        version = (self.weight.data_ptr(), self.weight._version)
        if self.packed_version != version:
            # 32 rows: what the order is chosen for; it serves 1 and 500 as well
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), 32)
            self.packed_version = version
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack_linear_layers(model: nn.Module) -> None:
    """Replace the large linear layers of `model` by packed ones that share their parameters."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.numel() >= SMALLEST:
                setattr(parent, name, PackedLinear(child))
