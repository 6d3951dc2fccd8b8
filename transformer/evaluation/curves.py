"""Plots of the training curves of several runs, from their `log.jsonl`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.data.text import decode_lines
from transformer.pictures import show_legend

Curve = dict[int, float]
"""Update to value."""

SCORES = {"bleu": "BLEU", "p@1": "P@1, %", "accuracy": "accuracy, %", "bits_per_byte": "bits per byte"}
"""Scores for the third panel, with their axis labels; the first that a run has is plotted."""
LONGEST_EVENT = 2**16
"""The maximum length of a log line in bytes. The lines that training writes have a few hundred bytes."""
STARTS = ("data", "resume")
"""Events that are logged when training starts; their step is that of the checkpoint it continues from."""


def read_curves(run: Run) -> dict[str, Curve]:
    """Every number in a run's log as `EVENT/NAME`, for the updates that led to the current model.

    A start at update N (0 if training started from scratch in the same folder) discards what was logged after
    N. Invalid lines, such as one cut off by a full disk, are skipped. `CheckpointError` if there is no log,
    or no number in it.
    """
    try:
        lines = list(read_log(run.log))
    except OSError as error:
        raise CheckpointError(f"{run.log}: {error.strerror}; name a folder of `transformer train`") from None
    curves: dict[str, Curve] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            event, step = str(entry["event"]), int(entry["step"])
            figures = {name: float(value) for name, value in entry.items() if is_plottable(value)}
            if not 0 <= step < 2**53:
                continue
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if event in STARTS:
            curves = {name: up_to(step, curve) for name, curve in curves.items()}
        elif event in ("train", "valid"):
            for name, value in figures.items():
                if name not in ("step", "time"):
                    curves.setdefault(f"{event}/{name}", {})[step] = value
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        raise CheckpointError(f"{run.log}: no update has been logged")
    return curves


def read_log(path: Path) -> Iterator[str]:
    """The lines of a log; a line that is too long to be an event is cut, which makes it invalid JSON."""
    with path.open("rb") as file:
        yield from decode_lines(file, str(path), "replace", longest=LONGEST_EVENT, too_long=lambda _: None)


def is_plottable(value: Any) -> bool:
    """Whether matplotlib can compute with a value: its axes square some numbers."""
    return isinstance(value, int | float) and abs(value) < 1e100


def up_to(step: int, curve: Curve) -> Curve:
    return {update: value for update, value in curve.items() if update <= step}


def draw_curves(curves: Mapping[str, dict[str, Curve]], axes: Sequence[Any]) -> Sequence[Any]:
    """Plot loss, learning rate and, on a third panel if there is one, the score of runs against the updates.

    `curves` maps the name of each run to what `read_curves` returns.
    """
    score = score_of(curves.values()) if len(axes) > 2 else None
    for number, (name, found) in enumerate(curves.items()):
        color = f"C{number % 10}"
        own_label = {} if "valid/loss" in found else {"label": name}
        line(axes[0], found.get("train/loss"), color=color, alpha=0.5, linewidth=1, **own_label)
        line(axes[0], found.get("valid/loss"), color=color, marker="o", markersize=3, label=name)
        line(axes[1], found.get("train/rate"), color=color, label=name)
        if score is not None:
            line(axes[2], found.get(f"valid/{score}"), color=color, marker="o", markersize=3, label=name)
    titles = ["loss: line training, dots validation", "learning rate"]
    titles += [] if score is None else [f"{SCORES[score]}, validation"]
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("updates")
        axis.grid(alpha=0.3)
        show_legend(axis)
    return axes


def score_of(curves: Iterable[dict[str, Curve]]) -> str | None:
    """The first of `SCORES` that a run has, which the third panel shows."""
    found = {name for each in curves for name in each}
    return next((name for name in SCORES if f"valid/{name}" in found), None)


def line(axis: Any, curve: Curve | None, **options: Any) -> None:
    if curve:
        steps = sorted(curve)
        axis.plot(steps, [curve[step] for step in steps], **options)
