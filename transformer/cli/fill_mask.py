"""`transformer fill-mask`: predict the tokens hidden by `<mask>` in each line."""

import sys

from transformer.cli.lines import add_line_options, loading_options, require_positive_option, write_row
from transformer.cli.standard_input import StandardInput
from transformer.config.parser import command_parser

DESCRIPTION = """Predict the most probable tokens for each <mask> in the lines of standard input. Writes the
tokens best first as LINE<TAB>MASK<TAB>PROBABILITY<TAB>TOKEN; lines, and the masks in a line, are numbered
from 1."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument("--count", type=int, default=5, help="number of candidates for each <mask>")
    options = parser.parse_args(arguments)
    require_positive_option(options, "count")

    from transformer.decoding.predictors import MaskFiller

    filler = MaskFiller.from_pretrained(options.run, **loading_options(options))
    given = StandardInput(options)
    first = 1
    lines = enumerate(given.lines, start=1)
    # `filler.read` raises an error for a line without <mask>; the lines before that line are still answered.
    for sentences in given.together(filler.read(line, number) for number, line in lines):
        for line, masks in enumerate(filler.fill_ids(sentences, options.count), first):
            for mask, candidates in enumerate(masks, start=1):
                for candidate in candidates:
                    write_row(str(line), str(mask), f"{candidate.probability:.4f}", candidate.text)
        sys.stdout.buffer.flush()
        first += len(sentences)
