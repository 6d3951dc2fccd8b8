"""Shared code of the commands that read standard input line by line."""

import sys
from typing import Any

from jsonargparse import Namespace

from transformer.cli.custom_code import custom_build
from transformer.cli.options import (
    add_device_option,
    add_on_error_option,
    add_precision_option,
    add_run_option,
)
from transformer.config.parser import CommandParser


def add_line_options(parser: CommandParser) -> None:
    add_run_option(parser)
    add_on_error_option(parser)
    add_device_option(parser)
    add_precision_option(parser)


def loading_options(options: Namespace) -> dict[str, Any]:
    """Turn the parsed options into keyword arguments for `from_pretrained`."""
    build = custom_build(options.build)
    return {"build": build, "device": options.device, "precision": options.precision}


def write_row(*columns: str) -> None:
    sys.stdout.buffer.write(("\t".join(columns) + "\n").encode())


def require_positive_option(options: Namespace, name: str) -> None:
    value = getattr(options, name)
    if value < 1:
        raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
