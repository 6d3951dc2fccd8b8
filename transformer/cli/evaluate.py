"""`transformer evaluate`: score a trained model on a test set."""

import json
from pathlib import Path
from typing import Any, get_args

from transformer.cli.custom_code import add_task_option, custom_build, custom_task
from transformer.cli.options import add_device_option, add_run_option
from transformer.cli.shards import require_plain
from transformer.config import BleuTokenizer
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Score a trained model. Translation: BLEU and chrF by sacreBLEU with their signatures, and
exact match; on toyland also exact match by phenomenon, compared with a word-for-word dictionary. Language
model: loss per token, perplexity and bits per byte. Masked language model: loss, perplexity and accuracy on a
fixed 15 % of the tokens. Classifier: accuracy. Sentence embeddings: how often the nearest sentence in the
other language is the correct translation."""
OPTIONS_OF_A_TASK: dict[str, dict[str, Any]] = {
    "--beam-size, --alpha and --show are for translations": {"beam_size": None, "alpha": None, "show": 0},
    "--bleu-tokenizer is for translations": {"bleu_tokenizer": None},
    "--paper-bleu is for translations": {"paper_bleu": False},
    "--output is for translations": {"output": None},
}
"""Options that only some tasks support, with their defaults. A key is the error message for other tasks."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_run_option(parser)
    add_task_option(parser)
    parser.add_argument("--data", help="test text, named as in data.test (default: the run's)")
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses per sentence; 1 is greedy (default: the run's)"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty (default: the run's)")
    parser.add_argument(
        "--bleu-tokenizer",
        metavar="NAME",
        choices=get_args(BleuTokenizer),
        help="sacreBLEU's tokenizer for BLEU (default: the run's, or the one for the target language)",
    )
    parser.add_argument(
        "--paper-bleu",
        action="store_true",
        help="also print BLEU by the paper's procedure: Moses tokens, hyphenated compounds split",
    )
    parser.add_argument(
        "--show", type=int, default=0, help="print this many right and this many wrong translations"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the scored sentences, one JSON object with source, reference and output per line",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_device_option(parser)
    options = parser.parse_args(arguments)
    if options.show < 0:
        raise ValueError(f"--show is {options.show}; it must be 0 or more")

    from transformer.checkpoint.opening import find_pretrained
    from transformer.config.files import load_settings
    from transformer.custom import chosen_task
    from transformer.evaluation.scored import write_scored
    from transformer.trained import load_pretrained, text_to_score

    found, checkpoint = find_pretrained(options.run)
    settings = load_settings(found.config)
    build, task = custom_build(options.build), chosen_task(settings, custom_task(options.task))
    given: dict[str, Any] = {}
    for reason, defaults in OPTIONS_OF_A_TASK.items():
        chosen = {name: options[name] for name, default in defaults.items() if options[name] != default}
        if not chosen.keys() <= task.score_options:
            raise ValueError(f"the run's task is {settings.trained_task}; {reason}")
        given |= chosen
    output = given.pop("output", None)  # written below, in the same way for every task
    if output is not None:
        require_plain(Path(output))
    data = text_to_score(settings, options.data)
    tell(f"scoring {checkpoint} on {data}")
    trained = load_pretrained(options.run, build=build, task=task, device=options.device)
    values, text, scored = task.score(trained, data, **given)
    if output is not None:
        write_scored(Path(output), scored)
    if options.json:
        text = json.dumps({"checkpoint": str(checkpoint), "data": data, **values})
    print(text)
