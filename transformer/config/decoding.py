"""Settings of the search (§6.1)."""

from dataclasses import dataclass

from transformer.config.checks import require, require_positive


@dataclass(frozen=True)
class DecodingConfig:
    """How a trained model translates (§6.1)."""

    beam_size: int = 4
    """Number of hypotheses that beam search keeps; 1 is greedy search."""
    alpha: float = 0.6
    """Exponent of the length penalty, at most 10: the penalty of a much higher one would overflow float32."""
    max_extra: int = 50
    """Maximum number of tokens by which a translation may be longer than its source."""
    batch_tokens: int = 4096
    """Maximum size of a batch: source tokens, padding included, times the beam size."""

    def __post_init__(self) -> None:
        require_positive(self, "decoding", "beam_size", "max_extra", "batch_tokens")
        require(self.alpha >= 0, f"decoding.alpha is {self.alpha}; it must be 0 or more")
        require(self.alpha <= 10, f"decoding.alpha is {self.alpha}; it must be at most 10")
