"""`transformer table3`: Table 3 of the paper with the size of our models."""

import json

from transformer.config.parser import command_parser

DESCRIPTION = """Print Table 3 of the paper. Each row shows how it differs from the base model, the paper's
perplexity per word piece, BLEU and number of parameters (English-German newstest2013, no averaging), and the
exact number of parameters of the same model here with a vocabulary of 37,000. Each row is a recipe in
configs/table3."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list")
    options = parser.parse_args(arguments)

    from transformer.evaluation.table3 import records, table

    print(json.dumps(list(records())) if options.json else table())
