"""Shared code of the commands that read standard input line by line."""

import sys
from collections.abc import Iterable, Iterator

from jsonargparse import Namespace

from transformer.cli.options import add_device_option, add_on_error_option, add_run_option
from transformer.cli.requests import Item, in_chunks
from transformer.config.parser import CommandParser
from transformer.data.text import LONGEST_INPUT_LINE, decode_lines, read_lines, refuse
from transformer.messages import warn

CHUNK = 1000
"""Lines that are read before they are processed together."""


def add_line_options(parser: CommandParser) -> None:
    add_run_option(parser)
    add_on_error_option(parser)
    add_device_option(parser)


def standard_input(options: Namespace, *, is_json: bool = False) -> Iterator[str]:
    """The lines of standard input; one that is too long is cut with a warning, but JSON is refused."""
    return decode_lines(
        sys.stdin.buffer,
        "standard input",
        options.on_error,
        longest=LONGEST_INPUT_LINE,
        too_long=refuse if is_json else warn,
    )


def input_file(path: str, options: Namespace, *, is_json: bool = False) -> Iterator[str]:
    """The lines of a file, treated like those of standard input."""
    return read_lines(
        path, options.on_error, longest=LONGEST_INPUT_LINE, too_long=refuse if is_json else warn
    )


def together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Up to `CHUNK` items at a time; one at a time if the lines are typed on a terminal."""
    return in_chunks(items, 1 if sys.stdin.isatty() else CHUNK)


def write_row(*columns: str) -> None:
    sys.stdout.buffer.write(("\t".join(columns) + "\n").encode())


def require_positive_option(options: Namespace, name: str) -> None:
    value = getattr(options, name)
    if value < 1:
        raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
