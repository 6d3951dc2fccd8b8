"""The parts of a training run that are code, not settings, and the names that a run stores for them."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from transformer.checkpoint.pretrained import Build, require_builder
from transformer.config import Settings
from transformer.config.checks import require, require_choice
from transformer.model.build import build_model
from transformer.tasks.registry import TASKS, is_custom
from transformer.tasks.task import Task, task_class
from transformer.training.optimizer import MakeOptimizer
from transformer.training.update_rule import Schedule


@dataclass(frozen=True)
class Parts:
    """The parts that `train` takes in addition to settings; the defaults are the package's own parts."""

    build: Build = build_model
    task: type[Task] | None = None
    optimizer: MakeOptimizer | None = None
    schedule: Schedule | None = None

    def named_in(self, settings: Settings) -> Settings:
        """Return the settings, with the names of a custom builder and a custom task added.

        Raises `ValueError` if the settings name custom code that these parts lack, or if the settings do not
        fit the task.
        """
        require_builder(settings, self.build, "the settings")
        if self.build is not build_model:
            settings = replace(settings, build=name_of(self.build))
        if self.task is not None:
            own = {task_class(name): name for name in TASKS}
            settings = replace(settings, task=own.get(self.task) or name_of(self.task))
        task = chosen_task(settings, self.task)
        require(
            task.kind in (None, settings.model.kind),
            f"model.kind is {settings.model.kind}; the task {settings.trained_task} trains {task.kind}",
        )
        require_choice("training.best_metric", settings.training.best_metric, task.metrics)
        return settings


def chosen_task(settings: Settings, given: type[Task] | None) -> type[Task]:
    """Return the task `given` or, if it is None, the package's task that the settings name."""
    if given is not None:
        return given
    name = settings.trained_task
    require(not is_custom(name), f"the task is {name}; pass --task {name}, or `task` in Python")
    return task_class(name)


def name_of(code: Any) -> str:
    """Return `MODULE:NAME` of a function or class.

    For a `partial`, return the name of its function; for any other object, the name of its class.
    """
    if isinstance(code, partial):
        return name_of(code.func)
    named = code if hasattr(code, "__qualname__") else type(code)
    return f"{named.__module__}:{named.__qualname__}"
