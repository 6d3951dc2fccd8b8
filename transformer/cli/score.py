"""`transformer score`: what a model thinks of given translations."""

import json
import sys

from transformer.cli.lines import add_line_options, standard_input, together, write_row
from transformer.cli.requests import is_text, json_line
from transformer.data.text import CorpusError
from transformer.settings.parser import command_parser

DESCRIPTION = """Read lines SOURCE<TAB>TARGET and write for each log P(target | source): natural logarithms,
summed over the target's tokens and its end; `transformer translate --alpha 0 --scores` writes the same."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument("--tokens", action="store_true", help="a tab and each token's own after the sum")
    parser.add_argument(
        "--json",
        action="store_true",
        help='a JSON object a line, with "source" and "target"; "score" and "token_scores" join its fields',
    )
    options = parser.parse_args(arguments)
    from transformer.decoding.translator import Translator

    translator = Translator.from_pretrained(options.run, device=options.device)
    numbered = enumerate(standard_input(options), start=1)
    first = 1
    for records in together(read(line, number, options.json) for number, line in numbered):
        sources, targets = ([record[side] for record in records] for side in ("source", "target"))
        for record, score in zip(records, translator.score(sources, targets, first_line=first), strict=True):
            if options.json:
                write_row(json_line(record | {"score": score.total, "token_scores": score.tokens}))
            else:
                tokens = [" ".join(f"{value:.4f}" for value in score.tokens)] if options.tokens else []
                write_row(f"{score.total:.4f}", *tokens)
        sys.stdout.buffer.flush()
        first += len(records)


def read(line: str, number: int, is_json: bool) -> dict[str, str]:
    if not is_json:
        source, tab, target = line.partition("\t")
        if not tab:
            raise CorpusError(f"line {number} has no tab; write SOURCE<TAB>TARGET")
        return {"source": source, "target": target}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"line {number} is not JSON: {error}") from None
    if not isinstance(record, dict) or not all(is_text(record.get(side)) for side in ("source", "target")):
        raise CorpusError(f'line {number} is not a JSON object with texts "source" and "target"')
    return record
