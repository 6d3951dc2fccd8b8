"""Loading a run of any task for inspection."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.opening import find_pretrained
from transformer.checkpoint.pretrained import Build
from transformer.config.files import load_settings
from transformer.inspection.data import Gold
from transformer.inspection.gold import has_oracle, toyland_gold
from transformer.inspection.inspect import Inspectable
from transformer.model.build import build_model
from transformer.tasks.registry import is_custom, tasks_of_kind, use_of


class Opened(NamedTuple):
    """A model to inspect, its task, and a function that returns a line's correct translation, if known."""

    model: Inspectable
    task: str
    gold: Callable[[str], Gold | None]


def open_model(run: str | Path, *, device: str = "auto", build: Build = build_model) -> Opened:
    """Load the best checkpoint of a run's folder, or one checkpoint; the run may have any task."""
    settings = load_settings(find_pretrained(run)[0].config)
    task = settings.trained_task
    if is_custom(task):  # take the first built-in task that trains the same kind of model
        task = next(tasks_of_kind(settings.model.kind))
    use = use_of(task)
    if use is None:
        raise CheckpointError(f"{run} was trained for {task}; models of this task cannot be inspected")
    module, _, name = use.loader.partition(":")
    model = getattr(import_module(module), name).from_pretrained(run, build=build, device=device)
    return Opened(model, task, toyland_gold if has_oracle(settings) else no_gold)


def no_gold(_: str) -> None:
    """Return None; used instead of `toyland_gold` for runs whose correct translations are unknown."""
