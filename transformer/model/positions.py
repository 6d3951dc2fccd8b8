"""Positional encodings (§3.5): modules that map positions to vectors, which are added to the embeddings."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import ModelConfig
from transformer.kernels.positions import PositionTable


class SinusoidalEncoding(nn.Module):
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(pos / 10000^(2i/d)).

    The module has no parameters and accepts positions of any size. In our models, positions below 4,096 are
    looked up in a table that is computed once (`kernels/positions.py`).
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model is {d_model}; sinusoidal positions need an even width")
        self.d_model = d_model
        self.divisor = d_model
        self.table = PositionTable()

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d_model"]:
        return self.table.look_up(self.waves, positions)

    def waves(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d_model"]:
        """Compute the encoding from the formula, without the table."""
        if positions.is_mps:  # MPS has no float64
            return self.waves(positions.cpu()).to(positions.device)
        # float64, because in float32 the angle at position 1,000 is already wrong in the fifth decimal
        even = torch.arange(0, self.d_model, 2, dtype=torch.float64, device=positions.device)
        angles = positions[..., None] / 10_000 ** (even / self.divisor)
        # (…, d/2, 2) -> (…, d): each sine next to its cosine
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(torch.get_default_dtype())


class Tensor2TensorEncoding(SinusoidalEncoding):
    """The same formula with 10000^(2i/(d-2)), so that the longest wavelength is 10000 · 2π.

    The longest wavelength of the paper's formula is slightly shorter. The authors' code, Tensor2Tensor, uses
    this variant, and so do programs that follow Tensor2Tensor, such as Marian.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model)
        self.divisor = max(d_model - 2, 1)  # with d = 2 the exponent would be 0 / 0


class LearnedEncoding(nn.Embedding):
    """A learned vector for each of `max_positions` positions (row E of Table 3)."""

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__(max_positions, d_model)
        self.max_positions = max_positions

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d_model"]:
        require_positions(self, positions.shape[-1])
        return super().forward(positions)


POSITIONS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "sinusoidal": lambda config: SinusoidalEncoding(config.d_model),
    "tensor2tensor": lambda config: Tensor2TensorEncoding(config.d_model),
    "learned": lambda config: LearnedEncoding(config.max_positions, config.d_model),
}
"""The positional encoding for each value of `model.positions`."""


def require_positions(encoding: nn.Module, length: int) -> None:
    """Raise `ValueError` if `encoding` has an attribute `max_positions` and `length` exceeds it."""
    limit = getattr(encoding, "max_positions", None)
    if limit is not None and length > limit:
        raise ValueError(
            f"a sequence of {length} tokens is longer than the {limit} learned positions "
            "(model.max_positions); shorten it, or use sinusoidal positions"
        )
