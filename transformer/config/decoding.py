"""The search (§6.1)."""

from dataclasses import dataclass

from transformer.config.checks import require, require_positive


@dataclass(frozen=True)
class DecodingConfig:
    """How a trained model translates (§6.1)."""

    beam_size: int = 4
    """Hypotheses that the search keeps alive; 1 is greedy search."""
    alpha: float = 0.6
    """Exponent of the length penalty, at most 10: float32 cannot hold the penalty of much higher ones."""
    max_extra: int = 50
    """A translation has at most this many tokens more than its source."""
    batch_tokens: int = 4096
    """Source tokens that are translated together, padding included, times the beam."""

    def __post_init__(self) -> None:
        require_positive(self, "decoding", "beam_size", "max_extra", "batch_tokens")
        require(self.alpha >= 0, f"decoding.alpha is {self.alpha}; it must be 0 or more")
        require(self.alpha <= 10, f"decoding.alpha is {self.alpha}; it must be at most 10")
