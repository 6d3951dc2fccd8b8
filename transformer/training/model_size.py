"""Choosing the size of the model by the amount of training text, for `training.model_size: by_text`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from transformer.config import Settings
from transformer.data.epochs import EpochBatches


@dataclass(frozen=True)
class ModelSize:
    """The model settings that `training.model_size: by_text` chooses."""

    d_model: int
    num_heads: int
    d_ff: int
    num_layers: int

    def __str__(self) -> str:
        return f"d_model {self.d_model}, {self.num_heads} heads, d_ff {self.d_ff}, {self.num_layers} layers"


SIZES = (
    (100_000, ModelSize(d_model=64, num_heads=4, d_ff=256, num_layers=2)),
    (1_000_000, ModelSize(d_model=128, num_heads=4, d_ff=512, num_layers=3)),
)
"""Pairs (limit, size), smallest first. Each size is for corpora with fewer `padded_tokens` than the limit."""
LARGEST = ModelSize(d_model=256, num_heads=4, d_ff=1024, num_layers=3)
"""The size for any larger corpus; two CPU cores can train such a model in an hour or two."""


def padded_tokens(batches: EpochBatches[Any]) -> int:
    """Count the tokens in one epoch: source and target tokens together, including padding."""
    return sum(batches.sizes(rows)[0] for rows in batches.plan)


def size_for(tokens: int) -> ModelSize:
    return next((size for most, size in SIZES if tokens < most), LARGEST)


def sized_by_text(settings: Settings, batches: EpochBatches[Any], say: Callable[[str], None]) -> Settings:
    """Return `settings`, with a model size that suits the text if `training.model_size` is `by_text`."""
    if settings.training.model_size == "given":
        return settings
    tokens = padded_tokens(batches)
    size = size_for(tokens)
    say(f"model size chosen for {tokens:,} tokens of text: {size}")
    return with_size(settings, size)


def sized_as_recorded(settings: Settings, before: Settings) -> Settings:
    """Return `settings`, with the model size of the original run if `training.model_size` is `by_text`."""
    if settings.training.model_size == "given":
        return settings
    names = ModelSize.__dataclass_fields__
    return with_size(settings, ModelSize(**{name: getattr(before.model, name) for name in names}))


def with_size(settings: Settings, size: ModelSize) -> Settings:
    return replace(
        settings,
        model=replace(settings.model, **asdict(size)),
        training=replace(settings.training, model_size="given"),
    )
