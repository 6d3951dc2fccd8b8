"""`transformer nearest`: find the sentences of an index that are most similar to each line."""

import sys

from transformer.cli.lines import add_line_options, loading_options, require_positive_option, write_row
from transformer.cli.standard_input import StandardInput
from transformer.config.parser import command_parser
from transformer.data.text import one_line
from transformer.data.vectors import read_vectors

DESCRIPTION = """Find the sentences of an index that are most similar to each line of standard input. Writes
the sentences nearest first as LINE<TAB>COSINE<TAB>SENTENCE; lines are numbered from 1. Create the index with
`transformer embed` and the same run."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument(
        "--index",
        required=True,
        metavar="FILE",
        help="vectors from `transformer embed`: .jsonl, or .npy with --sentences",
    )
    parser.add_argument("--sentences", metavar="FILE", help="the sentences of a .npy index, one per line")
    parser.add_argument("--count", type=int, default=5, help="number of sentences for each line")
    options = parser.parse_args(arguments)
    require_positive_option(options, "count")
    sentences, index = read_vectors(options.index, options.sentences)

    from transformer.decoding.predictors import Embedder, nearest

    embedder = Embedder.from_pretrained(options.run, **loading_options(options))
    given = StandardInput(options)
    number = 1
    for lines in given.together(given.lines):
        for line, found in enumerate(nearest(embedder.embed(lines), index, options.count), number):
            for row, cosine in found:
                write_row(str(line), f"{cosine:.4f}", one_line(sentences[row]))
        sys.stdout.buffer.flush()
        number += len(lines)
