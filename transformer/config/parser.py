"""The parser of every command: jsonargparse, with `-` and `_` equivalent and one-line errors."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from transformer.config.checks import whole_number
from transformer.config.errors import UsageError, did_you_mean, shortened
from transformer.config.help import CommandHelp, types_of
from transformer.messages import standard_error

LONGEST_MESSAGE = 400
"""Maximum length of a message from jsonargparse. A longer message is shortened, because it may repeat the
whole command line."""

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class CommandParser(ArgumentParser):
    """An `ArgumentParser` that accepts `-` for `_` in options, and raises `UsageError` instead of exiting."""

    sections: Sequence[str] = ()
    """Sections of settings, such as `--model`. jsonargparse accepts them as options; this parser does not."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], *, defaults: bool = True
    ) -> Namespace:
        return super().parse_args(self.spell(args), defaults=defaults)

    def spell(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments with each option spelt as it was declared.

        Everything after `--` is unchanged. Values are unchanged too, with one exception: for an option that
        takes a whole number, `1e5` becomes `100000`.
        """
        declared = {with_dashes(option): option for option in self.options()}
        end = arguments.index("--") if "--" in arguments else len(arguments)
        spelt = list(arguments)
        for index, argument in enumerate(arguments[:end]):
            before = arguments[index - 1] if index else ""
            if before.startswith("--") and "=" not in before and self.takes_whole_number(before):
                spelt[index] = spelt_out(argument)
                continue
            if argument.startswith("--"):
                option, equals, value = argument.partition("=")
                if option in self.sections:
                    one = next(name for name in self.options() if name.startswith(f"{option}."))
                    self.error(f"{option} is a section; give one of its settings, such as {one}")
                if with_dashes(option) not in declared:
                    self.error(f"unknown option {shortened(option)}{did_you_mean(option, self.options())}")
                value = spelt_out(value) if self.takes_whole_number(option) else value
                spelt[index] = declared[with_dashes(option)] + equals + value
        return spelt

    def takes_whole_number(self, option: str) -> bool:
        names = {with_dashes(name): action for action in self._actions for name in action.option_strings}
        action = names.get(with_dashes(option))
        return action is not None and int in types_of(action)

    def options(self) -> list[str]:
        """Return all long options except the sections."""
        strings = (option for action in self._actions for option in action.option_strings)
        return [option for option in strings if option.startswith("--") and option not in self.sections]

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print the help. Unlike argparse's method, it does not hide errors such as a full disk."""
        (file or standard_error()).write(message)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            message = f"{', '.join(map(self.as_typed, missing[1].split(', ')))} is missing"
        raise UsageError(f"command line: {in_our_words(message)}") from ex

    def as_typed(self, name: str) -> str:
        """Return the option or argument that argparse calls `name`, as the usage line shows it."""
        action = next(action for action in self._actions if action.dest == name)
        return action.option_strings[-1] if action.option_strings else str(action.metavar or name)


def command_parser(prog: str, description: str, **options: Any) -> CommandParser:
    """Make the parser of one command; its `add_argument` works like argparse's."""
    options.setdefault("formatter_class", CommandHelp)
    return CommandParser(prog=prog, description=description, allow_abbrev=False, **options)


def spelt_out(value: str) -> str:
    """Return `100000` for `1e5`, and any other value unchanged."""
    if not re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d{1,2}", value):
        return value
    with suppress(ValueError):
        value = str(whole_number(value))
    return value


def with_dashes(option: str) -> str:
    return option.replace("_", "-")


def in_our_words(message: str) -> str:
    """Reduce a message to one line, and reword it if it is about a wrong type or a huge number."""
    if too_long := re.match(r'Parser key "(.+?)":.*has (\d+) digits; use sys.set_int', message, re.DOTALL):
        return f"{too_long[1]}: a number of {too_long[2]} digits is too large"
    wrong_type = re.match(
        r'Parser key "(?P<name>.+?)":.*(?:Got|Given) value: (?P<value>.*)', message, re.DOTALL
    )
    expected = re.findall(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|\S*Literal\[(.*?)\])", message)
    if not wrong_type or not expected:
        return shortened(" ".join(message.split()), LONGEST_MESSAGE)
    words = [f"one of {choices.replace(chr(39), '')}" if choices else kind for kind, choices in expected]
    types = " or ".join(words).replace("NoneType", "null")
    return f"{wrong_type['name']}: expected {types}, found {shortened(repr(wrong_type['value']))}"
