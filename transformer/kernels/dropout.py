"""Dropout (§5.4) that spends less CPU time on random numbers.

`nn.Dropout` is the plain version; `tests/test_dropout.py` checks that this one has the same properties.
"""

import torch
from torch import Tensor, nn

from transformer.kernels.attention import is_recorded

LEVELS = 2**16


class Dropout(nn.Dropout):
    """`nn.Dropout` that on a CPU draws 16 random bits per element instead of torch's 32 or 64.

    On a CPU, a small model spends a quarter of each update on drawing torch's dropout masks
    (`benchmarks/dropout.py`). The probability p is rounded to a multiple of 2^-16. The kept elements are
    multiplied by 1 / (1 - p) with the rounded p, so that the expected value is unchanged.

    With `inplace=True`, and inside the transforms of `torch.func`, such as `vmap`, this is `nn.Dropout`.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        dropped = round(self.p * LEVELS)
        is_plain = dropped in (0, LEVELS) or x.device.type != "cpu" or self.inplace
        # a compiler fuses torch's dropout into the code around it, and vmap makes its masks for each row
        if is_plain or is_recorded() or is_transformed():
            return super().forward(x)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        levels = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = levels.ge_(dropped - LEVELS // 2)  # 0 or 1 as integers: torch converts booleans slowly
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def is_transformed() -> bool:
    """Whether the code runs inside a transform of `torch.func`."""
    return torch._C._functorch.peek_interpreter_stack() is not None
