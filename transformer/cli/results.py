"""The lines that `transformer train` prints at the end: how good the model is, and how to use it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import STEP, Run
from transformer.config.files import load_settings
from transformer.evaluation.curves import read_curves
from transformer.tasks.registry import is_custom, use_of
from transformer.training.report import in_a_line


def results(folder: Path) -> Iterator[str]:
    """Yield the lines to print: the best checkpoint's metrics, if they were logged, and the next commands."""
    run = Run(folder)
    if (best := run.marked("best")) is not None:
        step = int(best.name.removeprefix(STEP))
        if metrics := validation_at(step, run):
            yield f"best checkpoint, update {step:,}: {in_a_line(metrics)}"
    settings = load_settings(run.config)
    task = settings.trained_task
    given = f"--run {shlex.quote(str(folder))}" + (f" --build {settings.build}" if settings.build else "")
    if (use := use_of(task)) is not None:
        yield f"use it:    transformer {use.command.format(run=given)}"
    given += f" --task {task}" if is_custom(task) else ""
    given += "" if settings.data.test else " --data TEXT"
    yield f"score it:  transformer evaluate {given}"


def validation_at(step: int, run: Run) -> dict[str, float]:
    """Return an update's validation metrics from the log; {} if the log is missing or has no such metrics."""
    try:
        logged = {name.partition("/"): curve for name, curve in read_curves(run).items()}
    except CheckpointError:
        return {}
    return {
        name: curve[step] for (event, _, name), curve in logged.items() if event == "valid" and step in curve
    }
