"""Tiny models and batches, which must follow the same laws as large ones."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from transformer.config import ModelConfig
from transformer.model.build import build_model

PAD, BOS, EOS = 0, 1, 2
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
"""How much two float32 computations of the same number may differ."""

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pre-norm": {"norm": "pre"},
    "learned": {"positions": "learned", "max_positions": 16},
    "free widths": {"d_k": 5, "d_v": 3},
    "biases": {"attention_bias": True, "output_bias": True, "tie_embeddings": False, "activation": "gelu"},
}
"""Model settings with which every law must hold."""


def tiny_config(**changes: Any) -> ModelConfig:
    sizes = {"vocab_size": 13, "d_model": 16, "num_heads": 2, "d_ff": 24, "num_layers": 2, "dropout": 0.0}
    return ModelConfig(**{**sizes, **changes})


def tiny_model(**changes: Any) -> Any:
    """A tiny model in which no parameter is exactly 0 or 1, as in a trained model."""
    model = build_model(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_rows(*lengths: int, first: int | None = None, vocab_size: int = 13) -> list[list[int]]:
    """Rows of random tokens without padding; `first` replaces the first token of each row."""
    rows = [torch.randint(3, vocab_size, (length,)).tolist() for length in lengths]
    return rows if first is None else [[first, *row[1:]] for row in rows]


def right_padded(rows: Sequence[Sequence[int]], length: int = 0) -> Tensor:
    length = max(length, *(len(row) for row in rows))
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows])


def assert_close(actual: Any, expected: Any, **tolerances: float) -> None:
    torch.testing.assert_close(actual, expected, **{**CLOSE, **tolerances})


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def be_second_of_two(monkeypatch) -> None:
    """Pretend to be the second of two processes that torchrun started on a machine with two GPUs."""
    for name, value in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
