"""Code that `transformer explain` and `plot` share: options for one sentence, and inspecting the sentence."""

from typing import TYPE_CHECKING

from jsonargparse import Namespace

from transformer.cli.custom_code import custom_build
from transformer.cli.options import add_device_option, add_inspection_options, add_run_option, options_of_task
from transformer.config.parser import CommandParser

if TYPE_CHECKING:
    from transformer.inspection.inspect import Inspection


def add_sentence_options(parser: CommandParser) -> None:
    add_run_option(parser)
    parser.add_argument("sentence", metavar="SENTENCE", help="the text to inspect")
    add_inspection_options(parser)
    add_device_option(parser)


def inspected(options: Namespace) -> "Inspection":
    """Run the model on the sentence and record what it does."""
    from transformer.inspection.inspect import inspect
    from transformer.inspection.loading import open_model

    opened = open_model(options.run, build=custom_build(options.build), device=options.device)
    gold = {"gold": opened.gold(options.sentence)} if opened.task == "translation" else {}
    return inspect(opened.model, options.sentence, **options_of_task(options, opened.task), **gold)
