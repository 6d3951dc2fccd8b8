"""Options that several commands have."""

from transformer.cli.custom_code import add_build_option
from transformer.config.parser import CommandParser


def add_run_option(parser: CommandParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it")
    add_build_option(parser)


def add_device_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N; not yet run: mps, xpu, xpu:N"
    )


def add_on_error_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--on-error",
        choices=("error", "skip", "replace"),
        default="error",
        help="for a line that is not UTF-8 or contains NUL: stop, treat it as empty, or replace bad bytes",
    )
