"""Small modules and batches of random values.

In a new LayerNorm, the weights are 1 and the biases 0, which could hide an error. Here, the weights and
biases of a LayerNorm are random too.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from transformer.config import ModelConfig

Module = TypeVar("Module", bound=nn.Module)

SOURCE_LENGTHS, TARGET_LENGTHS = (11, 1, 6), (4, 9, 7)


def small_config(**changes: Any) -> ModelConfig:
    sizes = {"vocab_size": 61, "d_model": 32, "num_heads": 4, "d_ff": 48, "num_layers": 3, "dropout": 0.0}
    return ModelConfig(**{**sizes, "max_positions": 16, **changes})


@torch.no_grad()
def randomised(module: Module) -> Module:
    """Overwrite all parameters with random values that keep activations near unit scale; set eval mode."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(part, nn.LayerNorm):
                nn.init.normal_(parameter, mean=float(name == "weight"), std=0.2)
            else:
                nn.init.normal_(parameter, std=0.2 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5)
    return module.eval()


def random_tokens(
    lengths: Sequence[int], config: ModelConfig, first: int | None = None
) -> Int[Tensor, "batch length"]:
    """Make ragged rows of ordinary tokens, right-padded; `first` replaces each row's first token."""
    rows = torch.full((len(lengths), max(lengths)), config.pad_id)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(4, config.vocab_size - 1, (length,))  # the last id is Marian's pad
    if first is not None:
        rows[:, 0] = first
    return rows


def real(lengths: Sequence[int]) -> Bool[Tensor, "batch length"]:
    """True where a row of `random_tokens` holds a token, False where it holds a pad."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
