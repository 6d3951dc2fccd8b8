"""`transformer evaluate`: the scores of a trained model on a test text."""

import json
import sys
from dataclasses import asdict

from transformer.settings.parser import command_parser

DESCRIPTION = """Translate a test text and compare with its references: BLEU and chrF by sacreBLEU with their
signatures, and exact match; on toyland by phenomenon too, beside a word-for-word dictionary."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it")
    parser.add_argument("--data", help="parallel text, named as in data.test; else the run's own data.test")
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses kept alive; 1 is greedy; else the run's own"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty; else the run's own")
    parser.add_argument("--show", type=int, default=0, help="right, and as many wrong, translations to print")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args(arguments)

    from transformer.checkpoint import find_run
    from transformer.data.corpus import load_parallel
    from transformer.decoding.translator import Translator
    from transformer.evaluation.metrics import corpus_scores
    from transformer.evaluation.report import examples, phenomenon_rows, phenomenon_table, score_table
    from transformer.settings.files import load_settings

    found, checkpoint = find_run(options.run)
    data = load_settings(found.config).data
    name = options.data or data.test
    if name is None:
        raise ValueError("the run names no data.test; pass --data with the text to evaluate on")
    translator = Translator.from_pretrained(options.run, device=options.device)
    table = load_parallel(name, data.source, data.target)
    sources, references = list(table["source"]), list(table["target"])
    print(f"translating {name} with {checkpoint}", file=sys.stderr)
    outputs = translator.translate(sources, beam_size=options.beam_size, alpha=options.alpha)
    scores = corpus_scores(outputs, references)
    has_phenomena = "phenomena" in table.column_names
    rows = list(phenomenon_rows(sources, outputs, references, table["phenomena"])) if has_phenomena else []
    if options.json:
        phenomena = {row.phenomenon: row._asdict() for row in rows}
        print(
            json.dumps(
                {"checkpoint": str(checkpoint), "data": name, **asdict(scores), "phenomena": phenomena}
            )
        )
        return
    print(score_table(scores))
    if rows:
        print(f"\n{phenomenon_table(rows)}")
    for example in examples(sources, outputs, references, options.show):
        print(f"\n{example}", end="")
