"""`transformer fill-mask`: what may stand where a line has `<mask>`."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from transformer.cli.lines import add_line_options, require_positive, standard_input, together, write_row
from transformer.settings.parser import command_parser

if TYPE_CHECKING:
    from transformer.decoding.sentences import MaskFiller

DESCRIPTION = """Write the most probable tokens for each <mask> in the lines of standard input, best first, as
LINE<TAB>MASK<TAB>PROBABILITY<TAB>TOKEN; lines and the masks of a line count from 1."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument("--count", type=int, default=5, help="candidates for each <mask>")
    options = parser.parse_args(arguments)
    require_positive(options, "count")

    from transformer.decoding.sentences import MaskFiller

    filler = MaskFiller.from_pretrained(options.run, device=options.device)
    number = 1
    for lines in together(fillable(filler, standard_input(options))):
        for line, masks in enumerate(filler.fill(lines, count=options.count, first_line=number), number):
            for mask, candidates in enumerate(masks, start=1):
                for candidate in candidates:
                    write_row(str(line), str(mask), f"{candidate.probability:.4f}", candidate.text)
        sys.stdout.buffer.flush()
        number += len(lines)


def fillable(filler: "MaskFiller", lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the first one that cannot be filled: those before it have their answers."""
    for number, line in enumerate(lines, start=1):
        filler.read(line, number)
        yield line
