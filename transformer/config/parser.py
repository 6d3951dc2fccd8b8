"""The parser of every command: jsonargparse, with `-` and `_` equivalent and one-line errors."""

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from transformer.config.errors import UsageError, did_you_mean
from transformer.config.help import CommandHelp
from transformer.messages import standard_error

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class CommandParser(ArgumentParser):
    """An `ArgumentParser` with options spelt with `-` or `_`, and `UsageError`s instead of exits."""

    unknown: Sequence[str] = ()
    """Options that jsonargparse adds and that are treated as unknown."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], *, defaults: bool = True
    ) -> Namespace:
        return super().parse_args(self.spell(args), defaults=defaults)

    def spell(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with each option spelt as declared; values and all after `--` are unchanged."""
        declared = {with_dashes(option): option for option in self.options()}
        end = arguments.index("--") if "--" in arguments else len(arguments)
        spelt = list(arguments)
        for index, argument in enumerate(arguments[:end]):
            if argument.startswith("--"):
                option, equals, value = argument.partition("=")
                if with_dashes(option) not in declared:
                    self.error(f"unknown option {option}{did_you_mean(option, self.options())}")
                spelt[index] = declared[with_dashes(option)] + equals + value
        return spelt

    def options(self) -> list[str]:
        """The long options."""
        strings = (option for action in self._actions for option in action.option_strings)
        return [option for option in strings if option.startswith("--") and option not in self.unknown]

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print the help; argparse would hide that the disk is full."""
        (file or standard_error()).write(message)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(f"command line: {in_our_words(message)}") from ex


def command_parser(prog: str, description: str, **options: Any) -> CommandParser:
    """The parser of one command; its `add_argument` is that of argparse."""
    options.setdefault("formatter_class", CommandHelp)
    return CommandParser(prog=prog, description=description, allow_abbrev=False, **options)


def with_dashes(option: str) -> str:
    return option.replace("_", "-")


def in_our_words(message: str) -> str:
    """The message in one line; jsonargparse's message about a wrong type has several."""
    wrong_type = re.match(
        r'Parser key "(?P<name>.+?)":.*(?:Got|Given) value: (?P<value>.*)', message, re.DOTALL
    )
    expected = re.findall(r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|\S*Literal\[(.*?)\])", message)
    if not wrong_type or not expected:
        return " ".join(message.split())
    words = [f"one of {choices.replace(chr(39), '')}" if choices else kind for kind, choices in expected]
    types = " or ".join(words).replace("NoneType", "null")
    return f"{wrong_type['name']}: expected {types}, found {wrong_type['value']!r}"
