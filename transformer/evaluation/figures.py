"""Plots of the paper's learning rate, positional encodings and Table 3.

Each function draws on the matplotlib axes that it is given, and returns them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from transformer.config import Settings
from transformer.evaluation.table3 import ROWS, count_parameters
from transformer.pictures import show_legend
from transformer.training.schedule import learning_rate

POINTS = 1000
"""The approximate number of points at which the learning rate is plotted; more would not be visible."""


def draw_schedule(settings: Mapping[str, Settings], axes: Any) -> Any:
    """Plot the learning rate (equation 3) against the updates, with one line for each entry of `settings`."""
    for name, each in settings.items():
        training = each.training
        last = training.max_steps
        steps = sorted({*range(1, last + 1, max(1, last // POINTS)), min(training.warmup_steps, last), last})
        rates = [learning_rate(step, each.model.d_model, training) for step in steps]
        axes.plot(steps, rates, label=name)
    axes.set_xlabel("updates")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("learning rate")
    axes.grid(alpha=0.3)
    show_legend(axes)
    return axes


def draw_positions(encoding: nn.Module, length: int, axes: Any) -> Any:
    """Draw a positional encoding (§3.5), with one row for each position from 0 to `length` - 1."""
    device = next((each.device for each in encoding.parameters()), torch.device("cpu"))
    with torch.no_grad():
        vectors = encoding(torch.arange(length, device=device)).float().cpu()
    largest = float(vectors.abs().max())
    image = axes.imshow(vectors.numpy(), cmap="RdBu_r", aspect="auto", vmin=-largest, vmax=largest)
    axes.figure.colorbar(image, ax=axes)
    axes.set_xlabel("dimension")
    axes.set_ylabel("position")
    return axes


def draw_table3(axes: Any) -> Any:
    """Plot the BLEU in each row of the paper's Table 3 against the number of parameters of our model."""
    places: dict[tuple[int, float], list[tuple[float, str]]] = {}
    for row in ROWS:
        size = count_parameters(row.config())
        places.setdefault((round(size / 4e6), row.bleu), []).append((size / 1e6, row.name))
    for (_, bleu), rows in places.items():  # rows of nearly the same size and score share a label
        millions = [size for size, _ in rows]
        axes.plot(millions, [bleu] * len(rows), "o", color="tab:blue")
        text = ", ".join(name for _, name in rows)
        axes.annotate(text, (max(millions), bleu), (4, 3), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_xticks([30, 50, 100, 200], ["30", "50", "100", "200"])
    axes.minorticks_off()
    axes.set_xlabel("parameters of our model, millions")
    axes.set_ylabel("BLEU of the paper, newstest2013")
    axes.grid(alpha=0.3)
    return axes
