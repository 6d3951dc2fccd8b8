"""Settings of the search (§6.1)."""

from dataclasses import dataclass

from transformer.config.checks import require, require_plain_numbers, require_positive

MAX_BEAM_SIZE = 1000

BATCH_TOKENS = {"cpu": 4096, "cuda": 32_768}
"""The default of `decoding.batch_tokens` by kind of device. Only many hypotheses at once keep a GPU busy; the
default for a GPU allows 256 sentences of 28 tokens with a beam of 4."""
ONE_PASS_TOKENS = {"cpu": 1024, "cuda": 4096}
"""The default of `decoding.batch_tokens` where the model reads a batch in one pass, without a search. On a
CPU, the activations of larger batches would not fit into the caches (`benchmarks/one_pass.py`)."""


@dataclass(frozen=True)
class DecodingConfig:
    """How a trained model translates (§6.1)."""

    beam_size: int = 4
    """Hypotheses of the beam; 1 is greedy.
    At most 1,000."""
    alpha: float = 0.6
    """Exponent of the length penalty.
    At most 10, because the penalty of a much higher exponent would overflow float32."""
    max_extra: int = 50
    """Tokens by which output may exceed source."""
    batch_tokens: int | None = None
    """Source tokens times beam per batch; null: by device.
    This limits the size of a batch, padding included. By default, the limit is 4096, or 32768 for a search on
    a CUDA GPU. Without a search, as in `classify` and `score`, the limit is 1024, or 4096 on a GPU."""

    def __post_init__(self) -> None:
        require_plain_numbers(self, "decoding")
        require_positive(self, "decoding", "beam_size", "max_extra")
        require(
            self.beam_size <= MAX_BEAM_SIZE,
            f"decoding.beam_size is {self.beam_size}; it must be at most {MAX_BEAM_SIZE}",
        )
        require(
            self.batch_tokens is None or self.batch_tokens > 0,
            f"decoding.batch_tokens is {self.batch_tokens}; it must be null or greater than 0",
        )
        require(self.alpha >= 0, f"decoding.alpha is {self.alpha}; it must be 0 or more")
        require(self.alpha <= 10, f"decoding.alpha is {self.alpha}; it must be at most 10")

    def batch_limit(self, device_type: str = "cpu") -> int:
        """Return `batch_tokens`, or its default for a search on this kind of device."""
        return self.batch_tokens or BATCH_TOKENS.get(device_type, BATCH_TOKENS["cpu"])

    def one_pass_limit(self, device_type: str) -> int:
        """Return `batch_tokens`, or its default for one pass on this kind of device."""
        return self.batch_tokens or ONE_PASS_TOKENS.get(device_type, ONE_PASS_TOKENS["cuda"])
