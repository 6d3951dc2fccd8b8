"""`transformer score`: the log-probability of given translations."""

import sys
from typing import Any, NamedTuple

from transformer.cli.lines import add_line_options, loading_options, write_row
from transformer.cli.standard_input import StandardInput
from transformer.config.parser import command_parser
from transformer.data.json_text import json_line, parse_object
from transformer.data.text import CorpusError

DESCRIPTION = """Read lines SOURCE<TAB>TARGET and write log P(target | source) for each line: the sum of the
natural log-probabilities of the target's tokens and of the end of sentence. `transformer translate --alpha 0
--scores` reports the same number for its own translations."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_line_options(parser)
    parser.add_argument(
        "--tokens", action="store_true", help="after the sum, add a tab and each token's log-probability"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help='read a JSON object with "source" and "target" per line; add "score" and "token_scores" to it',
    )
    options = parser.parse_args(arguments)
    from transformer.decoding.translator import Translator

    translator = Translator.from_pretrained(options.run, **loading_options(options))
    given = StandardInput(options, is_json=options.json)
    numbered = enumerate(given.lines, start=1)
    first = 1
    for pairs in given.together(read(line, number, options.json) for number, line in numbered):
        sources, targets = [pair.source for pair in pairs], [pair.target for pair in pairs]
        for pair, score in zip(pairs, translator.score(sources, targets, first_line=first), strict=True):
            if options.json:
                write_row(json_line(pair.fields | {"score": score.total, "token_scores": score.tokens}))
            else:
                tokens = [" ".join(f"{value:.4f}" for value in score.tokens)] if options.tokens else []
                write_row(f"{score.total:.4f}", *tokens)
        sys.stdout.buffer.flush()
        first += len(pairs)


class Pair(NamedTuple):
    """One line of the input."""

    source: str
    target: str
    fields: dict[str, Any]
    """All fields of a JSON line, to be written back unchanged."""


def read(line: str, number: int, is_json: bool) -> Pair:
    if is_json:
        values, written = parse_object(line, f"line {number}", ["source", "target"])
        return Pair(values["source"], values["target"], written)
    source, tab, target = line.partition("\t")
    if not tab:
        raise CorpusError(f"line {number} has no tab; write SOURCE<TAB>TARGET")
    return Pair(source, target, {})
