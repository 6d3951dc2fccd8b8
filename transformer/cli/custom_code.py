"""`--build MODULE:FUNCTION` and `--task MODULE:CLASS`: import custom code that the user names."""

import sys
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer.config.errors import UsageError, did_you_mean
from transformer.config.parser import CommandParser
from transformer.tasks.registry import is_custom

if TYPE_CHECKING:
    from transformer.checkpoint.pretrained import Build
    from transformer.tasks.task import Task


def add_build_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--build",
        metavar="MODULE:FUNCTION",
        help="the function that built the model in training, if it was custom; MODULE is imported from the "
        "current folder or an installed package",
    )


def add_task_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--task", metavar="MODULE:CLASS", help="a custom task; MODULE is imported as for --build"
    )


def custom_build(name: str | None) -> "Build":
    """Return the function that `--build` names, or the package's `build_model` without `--build`."""
    from transformer.model.build import build_model

    if name is None:
        return build_model
    return imported("--build", name, callable, "a function from ModelConfig to a module")


def custom_task(name: str | None) -> "type[Task] | None":
    """Return the class that `--task` names; None without `--task`, or for a task of the package."""
    from transformer.tasks.task import Task

    if name is None or not is_custom(name):
        return None

    def is_task(found: Any) -> bool:
        return isinstance(found, type) and issubclass(found, Task)

    return imported("--task", name, is_task, "a subclass of Task")


def imported(option: str, name: str, is_valid: Callable[[Any], bool], kind: str) -> Any:
    """Import the object called `MODULE:NAME`.

    The module may be in the current folder, as with `python -m`. Raises `UsageError` if the object does not
    exist or is not of the right `kind`. An error raised inside the module keeps its traceback, which the
    author of the module needs.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{option} is {name}; it must have the form MODULE:NAME, such as my_model:build")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but imports a missing module
        raise UsageError(
            f"{option} {name}: there is no module {error.name} in {folder}, nor is it installed"
        ) from None
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        known = did_you_mean(attribute, (key for key in vars(module) if not key.startswith("_")))
        raise UsageError(f"{option} {name}: {module.__file__} defines no {attribute}{known}") from None
    if not is_valid(found):
        raise UsageError(f"{option} {name} is not {kind}")
    return found
