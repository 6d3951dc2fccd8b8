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
"""Maps a step number to the value at that step."""

SCORES = {"bleu": "BLEU", "p@1": "P@1, %", "accuracy": "accuracy, %", "bits_per_byte": "bits per byte"}
"""Scores for the third panel, with their axis labels; the first score that any run has is plotted."""
LONGEST_EVENT = 2**16
"""The maximum length of a log line in bytes. The lines that training writes have a few hundred bytes."""
STARTS = ("data", "resume")
"""Events that are logged when training starts. Their `step` is the step number of the loaded checkpoint, or 0
if no checkpoint is loaded."""


def read_curves(run: Run) -> dict[str, Curve]:
    """Read the numbers in a run's log as curves with names such as `train/loss` and `valid/bleu`.

    If training was restarted from update N, earlier entries for updates after N are left out, because those
    updates did not lead to the current model. N is 0 if training was restarted from scratch in the same
    folder. Invalid lines, such as a line truncated by a full disk, are skipped. Raises `CheckpointError` if
    there is no log, or if the log has no numbers.
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
    """Yield the lines of a log; a line too long to be an event is truncated, so it becomes invalid JSON."""
    with path.open("rb") as file:
        yield from decode_lines(file, str(path), "replace", longest=LONGEST_EVENT, too_long=lambda _: None)


def is_plottable(value: Any) -> bool:
    """Whether matplotlib can plot `value`. Huge numbers overflow, because matplotlib squares some values."""
    return isinstance(value, int | float) and abs(value) < 1e100


def up_to(step: int, curve: Curve) -> Curve:
    return {update: value for update, value in curve.items() if update <= step}


def draw_curves(curves: Mapping[str, dict[str, Curve]], axes: Sequence[Any]) -> Sequence[Any]:
    """Plot the loss, the learning rate and, if `axes` has a third panel, a score of several runs.

    `curves` maps the name of each run to the result of `read_curves`.
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
    """The name of the score that the third panel shows: the first of `SCORES` that any run has."""
    found = {name for each in curves for name in each}
    return next((name for name in SCORES if f"valid/{name}" in found), None)


def line(axis: Any, curve: Curve | None, **options: Any) -> None:
    if curve:
        steps = sorted(curve)
        axis.plot(steps, [curve[step] for step in steps], **options)
