"""Rotary positions (Su et al., 2021): queries and keys are rotated; nothing is added to the embeddings.

python examples/rotary.py [UPDATES]

Each pair of numbers in a query or key is treated as a point in a plane, and this point is rotated by an angle
proportional to the position. The dot product of a query and a key then depends only on the difference of
the two positions, not on the positions themselves.
"""

import torch
from demonstration import demonstrate
from torch import Tensor, nn

import transformer
from transformer import KeyValue


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate `x` (B, H, T, d_k) by the angles of §3.5; `SinusoidalEncoding` has their sines and cosines."""
    angles = transformer.SinusoidalEncoding(x.shape[-1])(positions)[:, None]  # (B, 1, T, d_k)
    sin, cos = angles.to(x.dtype).unflatten(-1, (-1, 2)).unbind(-1)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class RotaryAttention(transformer.MultiHeadAttention):
    """Rotates keys before they are cached, so that each key is rotated only once."""

    def project_q(self, x: Tensor, positions: Tensor) -> Tensor:
        return rotate(super().project_q(x), positions)

    def project_kv(self, x: Tensor, positions: Tensor) -> KeyValue:
        keys, values = super().project_kv(x)
        return KeyValue(rotate(keys, positions), values)


class NoPositions(nn.Module):
    """Adds nothing to the embeddings."""

    def forward(self, positions: Tensor) -> Tensor:
        return torch.zeros(1, device=positions.device)


class RotaryBuilder(transformer.ModelBuilder):
    def attention(self) -> transformer.MultiHeadAttention:
        return super().attention(RotaryAttention)

    def decoder_block(self) -> transformer.DecoderBlock:
        cross_attention = super().attention()  # not rotated: source and target positions do not correspond
        return transformer.DecoderBlock(self.attention(), cross_attention, self.feed_forward(), self.residual)

    def positions(self) -> nn.Module:
        return NoPositions()


def build(config: transformer.ModelConfig) -> nn.Module:
    return RotaryBuilder(config).build()


def main() -> None:
    translator = demonstrate(build)
    attention = translator.model.encoder.blocks[0].self_attention
    words = torch.randn(1, 2, attention.w_q.in_features)
    print("\nattention scores of the same two words at different positions (first head of the first layer)")
    for positions in ([3, 5], [103, 105], [3, 6]):
        places = torch.tensor([positions])
        scores = (
            attention.project_q(words, places) @ attention.project_kv(words, places).keys.mT
        )  # (1, H, 2, 2)
        print(f"{positions[0]:>4} and {positions[1]:>3}: {scores[0, 0, 0, 1].item():8.4f}")


if __name__ == "__main__":
    main()
