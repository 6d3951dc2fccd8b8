"""Reading settings from a command line with jsonargparse, and the parser that prints their help."""

from argparse import SUPPRESS
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from transformer.config import Settings, setting_names
from transformer.config.errors import UsageError
from transformer.config.files import SECTIONS, build_settings, read_file
from transformer.config.help import LEGEND, HelpAction, SettingsHelp, is_setting, metavar
from transformer.config.model import FIXED_BY_TOKENIZER
from transformer.config.parser import CommandParser, command_parser
from transformer.config.recipes import find_recipe


def read_settings(
    arguments: Sequence[str],
    *,
    prog: str,
    description: str = "",
    add_options: Callable[[CommandParser], object] | None = None,
) -> tuple[Settings, Namespace]:
    """Return the settings that a command line gives, and the values of the options from `add_options`.

    Later `--config` files override earlier files, and `--section.key value` overrides all files. With
    `--resume`, files and options override the settings of the run in the output folder. The options `build`
    and `task` are read from the command line only (None if absent), because a settings file must not run
    code.
    """
    parser = settings_parser(prog, description)
    if add_options is not None:
        add_options(parser)
    chosen = parser.parse_args(arguments)
    values: dict[str, Any] = {}
    for name in chosen.config or []:
        values |= read_file(find_recipe(name))
    given = parser.parse_args(arguments, defaults=False)
    options = {name: given[name] for name in setting_names() if name in given}
    values |= options
    require_size_once(values, options)
    recorded = Path(values.get("output", Settings.output)) / "config.yaml"
    if "resume" in chosen and chosen.resume and recorded.exists():
        values = read_file(recorded) | values
    for name in ("config", *(item.name for item in fields(Settings))):
        del chosen[name]
    for name in ("build", "task"):
        chosen[name] = given.get(name)
    return build_settings(Settings, values), chosen


def require_size_once(values: Mapping[str, Any], options: Collection[str]) -> None:
    """Raise `UsageError` if `training.model_size: by_text` would replace a model size that the user has set.

    A file may set a size to its default, because a file may list all settings. Setting a size on the command
    line (its name is then in `options`) is always an error.
    """
    default = Settings()
    if values.get("training.model_size", default.training.model_size) == "given":
        return
    for name in ("d_model", "num_heads", "d_ff", "num_layers"):
        value = values.get(f"model.{name}")
        if f"model.{name}" in options or value not in (None, getattr(default.model, name)):
            raise UsageError(
                f"model.{name} is {value}, but training.model_size is by_text, which chooses this size by "
                "the amount of text; to choose it yourself, add --training.model_size given"
            )


def settings_parser(prog: str, description: str) -> CommandParser:
    """Return a parser with `--config` and an option for each setting; the setting's docstring is its help."""
    usage = "%(prog)s [--config FILE] ... [--section.key VALUE] ... [options]"
    parser = command_parser(
        prog, f"{description}\n{LEGEND}", usage=usage, formatter_class=SettingsHelp, add_help=False
    )
    parser.sections = [f"--{section}" for section in SECTIONS]
    add = parser.add_argument
    add("-h", "--help", action=HelpAction, help="show this help; with a NAME, explain a setting")
    add("--config", action="append", metavar="FILE", help="recipe (name or file); later ones override")
    parser.add_class_arguments(Settings)
    for action in parser._actions:
        if action.dest in (*SECTIONS, *FIXED_BY_TOKENIZER):  # the tokenizer fixes the special ids
            action.help = SUPPRESS
        elif is_setting(action):
            action.metavar = metavar(action)
    return parser
