"""Sinusoidal positions from a table, in a model that is only used for inference.

`SinusoidalEncoding` in `positions.py` is the plain version; a test checks that the two are equal.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.kernels.attention import is_recorded
from transformer.model.positions import SinusoidalEncoding, Tensor2TensorEncoding

FIRST_ROWS = 128
"""Of the table; it grows by doubling."""


class TabledSinusoids(SinusoidalEncoding):
    """Looks positions up instead of computing sines and cosines in float64 in every step."""

    table: Tensor | None = None

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d_model"]:
        if is_recorded() or not positions.is_cpu or positions.numel() == 0:
            return super().forward(positions)
        lowest, highest = (int(end) for end in positions.aminmax())
        if lowest < 0:
            return super().forward(positions)
        table = self.table
        if table is None or highest >= len(table) or table.dtype != torch.get_default_dtype():
            rows = max(FIRST_ROWS, 2 * highest)
            with torch.inference_mode(False):  # a model may be trained after all
                self.table = table = super().forward(torch.arange(rows))
        return table[positions]


def tabulate_positions(model: nn.Module) -> None:
    """Turn the sinusoidal encodings of `model` into tables, in place; subclasses of your own stay."""
    for module in model.modules():
        if type(module) in (SinusoidalEncoding, Tensor2TensorEncoding):
            module.__class__ = TabledSinusoids
