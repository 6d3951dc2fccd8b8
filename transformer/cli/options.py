"""Options shared by several commands."""

from typing import Any

from jsonargparse import Namespace

from transformer.cli.custom_code import add_build_option
from transformer.config import INFERENCE_PRECISIONS
from transformer.config.parser import CommandParser
from transformer.tasks.registry import use_of


def add_run_option(parser: CommandParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it")
    add_build_option(parser)


def add_device_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N; so far untested: mps, xpu, xpu:N"
    )


def add_precision_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--precision",
        choices=INFERENCE_PRECISIONS,
        default="float32",
        help="precision of the matrix products. auto: bfloat16 or float16 where the hardware is fast with "
        "them; int8, for CPUs only, is usually the fastest, but rounds the weights",
    )


def add_on_error_option(parser: CommandParser) -> None:
    parser.add_argument(
        "--on-error",
        choices=("error", "skip", "replace"),
        default="error",
        help="for lines with NUL or invalid UTF-8: stop (error), read an empty line (skip) or replace bytes",
    )


def add_inspection_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses of the search; 1 is greedy (default: the run's)"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty (default: the run's)")
    parser.add_argument(
        "--max-length", type=int, help="maximum number of new tokens after a prompt (default: 40)"
    )


def options_of_task(options: Namespace, task: str) -> dict[str, Any]:
    """Return the inspection options that the user gave.

    Raises `ValueError` if the run's task does not support one of these options.
    """
    names = ("beam_size", "alpha", "max_length")
    given = {name: options[name] for name in names if options[name] is not None}
    use = use_of(task)
    for name in given:
        if use is None or name not in use.inspection_options:
            raise ValueError(f"the run's task is {task}, which has no --{name.replace('_', '-')}")
    return given
