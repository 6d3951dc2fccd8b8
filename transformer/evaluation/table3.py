"""Table 3 of the paper: the settings and results of its rows, and the size of our models."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch

from transformer.config import ModelConfig, TrainingConfig
from transformer.model.build import build_model

MODEL_COLUMNS = {
    "N": "num_layers",
    "d_model": "d_model",
    "d_ff": "d_ff",
    "h": "num_heads",
    "d_k": "d_k",
    "d_v": "d_v",
    "P_drop": "dropout",
}
TRAINING_COLUMNS = {"ε_ls": "label_smoothing", "steps": "max_steps"}


class Table3Row(NamedTuple):
    """How a row differs from the base model, and the paper's results on English-German newstest2013.

    Results are without checkpoint averaging, and perplexity is per word piece. `millions` is the number of
    parameters in millions, or None if the paper leaves it out.
    """

    name: str
    perplexity: float
    bleu: float
    millions: int | None = None
    model: dict[str, Any] = {}  # noqa: RUF012
    training: dict[str, Any] = {}  # noqa: RUF012

    def config(self) -> ModelConfig:
        return replace(ModelConfig(), **self.model)

    def settings(self) -> dict[str, Any]:
        """The settings that differ from the base model, by names such as `model.num_layers`."""
        changes = {f"model.{name}": value for name, value in self.model.items()}
        return changes | {f"training.{name}": value for name, value in self.training.items()}


BIG = {"d_model": 1024, "d_ff": 4096, "num_heads": 16, "dropout": 0.3}
ROWS = (
    Table3Row("base", 4.92, 25.8, 65),
    Table3Row("A1", 5.29, 24.9, None, {"num_heads": 1, "d_k": 512, "d_v": 512}),
    Table3Row("A2", 5.00, 25.5, None, {"num_heads": 4, "d_k": 128, "d_v": 128}),
    Table3Row("A3", 4.91, 25.8, None, {"num_heads": 16, "d_k": 32, "d_v": 32}),
    Table3Row("A4", 5.01, 25.4, None, {"num_heads": 32, "d_k": 16, "d_v": 16}),
    Table3Row("B1", 5.16, 25.1, 58, {"d_k": 16}),
    Table3Row("B2", 5.01, 25.4, 60, {"d_k": 32}),
    Table3Row("C1", 6.11, 23.7, 36, {"num_layers": 2}),
    Table3Row("C2", 5.19, 25.3, 50, {"num_layers": 4}),
    Table3Row("C3", 4.88, 25.5, 80, {"num_layers": 8}),
    Table3Row("C4", 5.75, 24.5, 28, {"d_model": 256, "d_k": 32, "d_v": 32}),
    Table3Row("C5", 4.66, 26.0, 168, {"d_model": 1024, "d_k": 128, "d_v": 128}),
    Table3Row("C6", 5.12, 25.4, 53, {"d_ff": 1024}),
    Table3Row("C7", 4.75, 26.2, 90, {"d_ff": 4096}),
    Table3Row("D1", 5.77, 24.6, None, {"dropout": 0.0}),
    Table3Row("D2", 4.95, 25.5, None, {"dropout": 0.2}),
    Table3Row("D3", 4.67, 25.3, None, {}, {"label_smoothing": 0.0}),
    Table3Row("D4", 5.47, 25.7, None, {}, {"label_smoothing": 0.2}),
    Table3Row("E", 4.92, 25.7, None, {"positions": "learned"}),
    Table3Row("big", 4.33, 26.4, 213, BIG, {"max_steps": 300_000}),
)


@cache
def count_parameters(config: ModelConfig) -> int:
    """Count the parameters without allocating memory, on the meta device; tied parameters count once."""
    with torch.device("meta"):
        model = build_model(config)
    return sum(parameter.numel() for parameter in model.parameters())


def records() -> Iterator[dict[str, Any]]:
    """Yield every row as a dictionary for JSON, with the exact parameter count of our model."""
    for row in ROWS:
        yield {
            "row": row.name,
            "settings": row.settings(),
            "perplexity": row.perplexity,
            "bleu": row.bleu,
            "paper_millions": row.millions,
            "parameters": count_parameters(row.config()),
        }


def table() -> str:
    """Return the paper's Table 3 with our exact parameter counts.

    In the rows below the base model, a cell is blank if its value is that of the base model.
    """
    columns = [*MODEL_COLUMNS, *TRAINING_COLUMNS]
    lines = [["", *columns, "PPL", "BLEU", "params ×10⁶", "ours"]]
    for row in ROWS:
        figures = [f"{row.perplexity:.2f}", f"{row.bleu:.1f}", str(row.millions or "")]
        lines.append([row.name, *_changes(row), *figures, f"{count_parameters(row.config()):,}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = (
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip()
        for cells in lines
    )
    return "\n".join((*texts, "E: learned positions in place of sinusoids"))


def _changes(row: Table3Row) -> Iterator[str]:
    base_model, base_training = ModelConfig(), TrainingConfig()
    widths = {"d_k": base_model.key_width, "d_v": base_model.value_width}
    for name in MODEL_COLUMNS.values():
        value = widths.get(name, getattr(base_model, name)) if row.name == "base" else row.model.get(name)
        yield "" if value is None else str(value)
    for name in TRAINING_COLUMNS.values():
        value = getattr(base_training, name) if row.name == "base" else row.training.get(name)
        yield "" if value is None else f"{value:,}"
