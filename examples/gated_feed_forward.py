"""A gated feed-forward network, SwiGLU (Shazeer, 2020), in place of equation 2.

python examples/gated_feed_forward.py [UPDATES]

One half of the inner layer computes values, and the other half gates these values. There are three matrices
instead of two, so an inner width of two thirds of `d_ff` gives the same number of parameters.
"""

from collections.abc import Callable

import torch.nn.functional as F
from demonstration import demonstrate
from torch import Tensor, nn

import transformer


class GatedFeedForward(nn.Module):
    """(activation(x W_gate) ⊙ x W_1) W_2, without biases, as in Shazeer's paper."""

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor] = F.silu, dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = round(2 * d_ff / 3)
        self.w_gate = nn.Linear(d_model, width, bias=False)
        self.w_1 = nn.Linear(d_model, width, bias=False)
        self.w_2 = nn.Linear(width, d_model, bias=False)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(self.dropout(self.activation(self.w_gate(x)) * self.w_1(x)))


class GatedBuilder(transformer.ModelBuilder):
    def feed_forward(self) -> nn.Module:
        return GatedFeedForward(self.config.d_model, self.config.d_ff, dropout=self.config.activation_dropout)


def build(config: transformer.ModelConfig) -> nn.Module:
    return GatedBuilder(config).build()


def main() -> None:
    config = demonstrate(build).config
    print("\nparameters of one feed-forward network")
    for builder in (transformer.ModelBuilder(config), GatedBuilder(config)):
        network = builder.feed_forward()
        print(f"{type(network).__name__:18}{sum(p.numel() for p in network.parameters()):>9,}")


if __name__ == "__main__":
    main()
