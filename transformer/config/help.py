"""The text of `--help`: each option with its type, meaning and default, and one line per setting.

A setting's line in the help is the first line of its docstring. `transformer train --help NAME` prints the
whole docstring of a setting, or the docstrings of all settings in a section.
"""

import sys
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from shutil import get_terminal_size
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from transformer.config.errors import UsageError, did_you_mean

LEGEND = "N is a whole number, X a number, BOOL true or false. The default is in [brackets]."
METAVARS = {int: "N", float: "X", bool: "BOOL", Literal: "NAME"}
TYPES = {"N": "A whole number", "X": "A number", "BOOL": "True or false", "TEXT": "Text"}
COLUMN = 33
"""The column where the text of a setting starts. The columns before it hold 2 spaces, the option with its
type (at most 29 characters), and 2 spaces."""


class CommandHelp(DefaultHelpFormatter):
    """The help of a command. It shows each default except `None`, which the option's own text explains."""

    def __init__(self, prog: str, max_help_position: int = 24) -> None:
        super().__init__(prog, max_help_position=max_help_position, width=width())  # type: ignore[no-untyped-call]

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.required and action.nargs != "*":  # argparse also marks "*" as required
            return f"{text} (required)"
        if action.nargs == 0 or action.default in (None, SUPPRESS):
            return text
        return f"{text} (default: {as_typed(action.default)})"

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        return metavar(action)


class SettingsHelp(CommandHelp):
    """The help of a command that takes settings: one line for each option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=COLUMN)

    def _get_help_string(self, action: Action) -> str:
        return setting_line(action, self._width - COLUMN) if is_setting(action) else (action.help or "")


class HelpAction(Action):
    """`--help` prints the help; `--help NAME` explains one setting, or each setting of a section."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"nargs": "?", "metavar": "NAME", "default": SUPPRESS})

    def __call__(self, parser: Any, _namespace: Any, values: Any, _option: Any = None) -> None:
        sys.stdout.write(explanation(parser, values) if values else parser.format_help())
        parser.exit()


def explanation(parser: ArgumentParser, name: str) -> str:
    """Return everything that the docstrings say about the setting or the section `name`."""
    settings = [action for action in parser._actions if is_setting(action)]
    found = [action for action in settings if f"{action.dest}.".startswith(f"{name.lstrip('-')}.")]
    if not found:
        names = {part for action in settings for part in (action.dest, action.dest.partition(".")[0])}
        raise UsageError(f"command line: --help {name}: no such setting{did_you_mean(name, sorted(names))}")
    return "\n".join("\n".join(paragraphs(action)) for action in found)


def paragraphs(action: Action) -> Iterator[str]:
    """Yield the lines and paragraphs that describe one setting completely."""
    summary, _, details = (action.help or "").partition("\n")
    choices = ", ".join(choices_of(action))
    kind = f"One of {choices}" if choices else TYPES[metavar(action)]
    facts = f"{kind}. Default: {default_of(action)}."
    yield f"--{action.dest} {metavar(action)}"
    for text in filter(None, (summary, details, facts)):
        words = " ".join(text.split())
        yield textwrap.fill(
            words, width(), initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
    yield ""


def setting_line(action: Action, room: int) -> str:
    """Return the line of a setting in the help, with the default in brackets.

    If the setting has choices, the line is the summary and the choices. If this is longer than `room`
    characters, the line is only the choices. If the choices are also too long, or if there are none, the line
    is the summary and the default.
    """
    summary = (action.help or "").partition("\n")[0].rstrip(".").partition("; null: ")[0]
    default = default_of(action)
    choices = ", ".join(f"[{name}]" if name == action.default else name for name in choices_of(action))
    if action.default is None:
        choices += f" [{default}]"
    candidates = (f"{summary}: {choices}", choices) if choices_of(action) else ()
    return next((text for text in candidates if len(text) <= room), f"{summary} [{default}]")


def default_of(action: Action) -> str:
    """Return the default as a string.

    If the default is null, return the explanation of null, such as `no clipping`, which follows `; null: ` in
    the first line of the setting's docstring.
    """
    if action.default is not None:
        return as_typed(action.default)
    return (action.help or "").partition("\n")[0].rstrip(".").partition("; null: ")[2]


def is_setting(action: Action) -> bool:
    return hasattr(action, "_typehint") and action.help != SUPPRESS


def metavar(action: Action) -> str:
    """Return the placeholder for an option's value in the help: N, X, BOOL, NAME or TEXT, by its type."""
    kinds = (get_origin(kind) or kind for kind in types_of(action))
    return next((METAVARS[kind] for kind in kinds if kind in METAVARS), "TEXT")


def choices_of(action: Action) -> tuple[str, ...]:
    return tuple(name for kind in types_of(action) if get_origin(kind) is Literal for name in get_args(kind))


def types_of(action: Action) -> tuple[Any, ...]:
    """Return the types of an option's value, except null."""
    kind = getattr(action, "_typehint", None) or action.type
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(kind for kind in kinds if kind is not NoneType)


def as_typed(value: Any) -> str:
    """Format a default as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def width() -> int:
    """Return the width of the help in columns: the width of the terminal, but at most 80."""
    return min(80, get_terminal_size().columns)
