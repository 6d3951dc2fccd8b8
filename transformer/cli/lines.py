"""Shared code of the commands that read standard input line by line."""

import sys
from collections.abc import Iterable, Iterator

from jsonargparse import Namespace

from transformer.cli.options import add_device_option, add_on_error_option, add_run_option
from transformer.cli.requests import Item, in_chunks
from transformer.config.parser import CommandParser
from transformer.data.text import decode_lines

CHUNK = 1000
"""Lines that are read before they are processed together."""


def add_line_options(parser: CommandParser) -> None:
    add_run_option(parser)
    add_on_error_option(parser)
    add_device_option(parser)


def standard_input(options: Namespace) -> Iterator[str]:
    return decode_lines(sys.stdin.buffer, "standard input", options.on_error)


def together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Up to `CHUNK` items at a time; one at a time if the lines are typed on a terminal."""
    return in_chunks(items, 1 if sys.stdin.isatty() else CHUNK)


def write_row(*columns: str) -> None:
    sys.stdout.buffer.write(("\t".join(columns) + "\n").encode())


def require_positive_option(options: Namespace, name: str) -> None:
    value = getattr(options, name)
    if value < 1:
        raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
