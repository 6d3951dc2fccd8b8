"""`transformer classify`: predict the class of each line of standard input."""

import sys

from transformer.cli.lines import add_line_options, loading_options, write_row
from transformer.cli.standard_input import StandardInput
from transformer.config.parser import command_parser

DESCRIPTION = """Predict the class of each line of standard input. Writes one line LABEL<TAB>PROBABILITY per
input line, in order; a blank line gives an empty line."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    options = parser.parse_args(arguments)

    from transformer.decoding.predictors import Classifier

    classifier = Classifier.from_pretrained(options.run, **loading_options(options))
    given = StandardInput(options)
    for lines in given.together(given.lines):
        for label in classifier.classify(lines):
            write_row(*([label.name, f"{label.probability:.4f}"] if label else []))
        sys.stdout.buffer.flush()
