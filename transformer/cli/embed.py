"""`transformer embed`: compute a sentence vector for each line of standard input."""

from pathlib import Path

from transformer.cli.lines import add_line_options, loading_options
from transformer.cli.shards import require_plain
from transformer.cli.standard_input import StandardInput
from transformer.config.parser import command_parser
from transformer.data.vectors import require_vector_file, write_vectors
from transformer.messages import tell

DESCRIPTION = """Compute a unit vector for each line of standard input. --output FILE.npy stores the
vectors as one array of shape (lines, d_model); --output FILE.jsonl stores an object {"text": ...,
"embedding": [...]} for each line."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write: .npy or .jsonl")
    options = parser.parse_args(arguments)
    require_vector_file(options.output)
    require_plain(Path(options.output))

    from transformer.decoding.predictors import Embedder

    embedder = Embedder.from_pretrained(options.run, **loading_options(options))
    lines = list(StandardInput(options).lines)
    vectors = embedder.embed(lines)
    write_vectors(options.output, lines, vectors)
    tell(f"{options.output}: {len(vectors):,} vectors of {vectors.shape[1]} numbers")
