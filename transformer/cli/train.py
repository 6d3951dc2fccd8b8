"""`transformer train`: settings in, a run's folder out."""

import sys

from transformer.settings.command_line import read_settings
from transformer.settings.parser import CommandParser

DESCRIPTION = """Train a model from settings: --config FILE names a recipe, for example configs/toyland.yaml,
and more --config FILE and --section.key VALUE change it. The defaults are the paper's base model."""


def run(arguments: list[str], prog: str) -> None:
    settings, options = read_settings(arguments, prog=prog, description=DESCRIPTION, add_options=add_options)
    from transformer.recipe import train  # torch and all: not for --help or an error in the settings

    folder = train(settings, resume=options.resume, say=lambda line: print(line, file=sys.stderr))
    print(f"trained model: {folder}", file=sys.stderr)


def add_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in the output folder from its last checkpoint, or start it",
    )
