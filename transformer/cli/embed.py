"""`transformer embed`: a vector for each line of standard input."""

from pathlib import Path

from transformer.cli.lines import add_line_options, standard_input
from transformer.cli.shards import require_plain
from transformer.config.parser import command_parser
from transformer.data.vectors import require_vector_file, write_vectors
from transformer.messages import tell

DESCRIPTION = """Write a vector of length 1 for each line of standard input, in order: to FILE.npy as an
array of lines x width, or to FILE.jsonl as one {"text": ..., "embedding": [...]} a line."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="the file to write, .npy or .jsonl")
    options = parser.parse_args(arguments)
    require_vector_file(options.output)
    require_plain(Path(options.output))

    from transformer.decoding.sentences import Embedder

    embedder = Embedder.from_pretrained(options.run, device=options.device)
    lines = list(standard_input(options))
    vectors = embedder.embed(lines)
    write_vectors(options.output, lines, vectors)
    tell(f"{options.output}: {len(vectors):,} vectors of {vectors.shape[1]} numbers")
