"""Embedding, feed-forward network and the residual connection around each sub-layer (§3.1, §3.3, §3.4)."""

import math
from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import ModelConfig
from transformer.kernels.dropout import Dropout

LAYER_NORM_EPSILON = ModelConfig.norm_epsilon


class TokenEmbedding(nn.Module):
    """Embedding × √d_model, plus the positional encoding, then dropout (§3.4, §3.5, §5.4).

    `embedding` may be shared with other modules; `positions` is any module that maps positions to vectors.
    """

    def __init__(self, embedding: nn.Embedding, positions: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions
        self.dropout = Dropout(dropout)
        self.scale = math.sqrt(embedding.embedding_dim)

    def forward(
        self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "#batch length"]
    ) -> Float[Tensor, "batch length d_model"]:
        embedded = self.embedding(tokens) * self.scale
        return self.dropout(embedded + self.positions(positions).to(embedded.dtype))


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 at each position (equation 2); `activation` may replace the ReLU."""

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.w_1 = nn.Linear(d_model, d_ff)
        self.w_2 = nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch length d_model"]) -> Float[Tensor, "batch length d_model"]:
        return self.w_2(self.dropout(self.activation(self.w_1(x))))


class PostNorm(nn.Module):
    """LayerNorm(x + Dropout(Sublayer(x))), the paper's residual connection (§3.1, §5.4)."""

    def __init__(self, d_model: int, dropout: float = 0.0, epsilon: float = LAYER_NORM_EPSILON) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=epsilon)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_model"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "batch length d_model"]:
        return self.norm(x + self.dropout(sublayer(x)))

    @staticmethod
    def final_norm(d_model: int, epsilon: float = LAYER_NORM_EPSILON) -> nn.Module:  # noqa: ARG004  (for PreNorm's)
        """Return no norm for the end of a stack, because the last layer's output is already normalised."""
        return nn.Identity()


class PreNorm(PostNorm):
    """x + Dropout(Sublayer(LayerNorm(x))), which lets deep stacks train without warm-up."""

    def forward(
        self, x: Float[Tensor, "batch length d_model"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "batch length d_model"]:
        return x + self.dropout(sublayer(self.norm(x)))

    @staticmethod
    def final_norm(d_model: int, epsilon: float = LAYER_NORM_EPSILON) -> nn.Module:
        """Return a LayerNorm for the end of a stack, because the last layer's output is not normalised."""
        return nn.LayerNorm(d_model, eps=epsilon)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
"""The function for each value of `model.activation`."""
NORMS: dict[str, type[PostNorm]] = {"post": PostNorm, "pre": PreNorm}
"""The class for each value of `model.norm`."""
