"""Settings of the search (§6.1)."""

from dataclasses import dataclass

from transformer.config.checks import require, require_positive


@dataclass(frozen=True)
class DecodingConfig:
    """How a trained model translates (§6.1)."""

    beam_size: int = 4
    """Hypotheses of the beam; 1 is greedy."""
    alpha: float = 0.6
    """Exponent of the length penalty.
    At most 10: the penalty of a much higher one would overflow float32."""
    max_extra: int = 50
    """Tokens by which output may exceed source."""
    batch_tokens: int = 4096
    """Source tokens times beam size per batch.
    Padding included."""

    def __post_init__(self) -> None:
        require_positive(self, "decoding", "beam_size", "max_extra", "batch_tokens")
        require(self.alpha >= 0, f"decoding.alpha is {self.alpha}; it must be 0 or more")
        require(self.alpha <= 10, f"decoding.alpha is {self.alpha}; it must be at most 10")
