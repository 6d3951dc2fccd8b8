"""`transformer table3`: print Table 3 of the paper, with the number of parameters of our models."""

import json

from transformer.config.parser import command_parser

DESCRIPTION = """Print Table 3 of the paper. Each row lists the differences from the base model; the paper's
results on English-German newstest2013 without checkpoint averaging (perplexity per word piece, BLEU); the
paper's number of parameters; and the exact number of parameters of this package's model with a vocabulary of
37,000. Each row is a recipe in configs/table3."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list")
    options = parser.parse_args(arguments)

    from transformer.evaluation.table3 import records, table

    print(json.dumps(list(records())) if options.json else table())
