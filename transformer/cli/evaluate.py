"""`transformer evaluate`: the scores of a trained model on a test text."""

import json
from dataclasses import asdict
from typing import Any, get_args

from jsonargparse import Namespace

from transformer.cli.options import add_device_option, add_run_option
from transformer.config import BleuTokenizer, Settings
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Score a trained model. Translation: BLEU and chrF by sacreBLEU with their signatures, and
exact match; on toyland by phenomenon too, beside a word-for-word dictionary. Language model: loss per
token, perplexity and bits per byte. Masked language model: the same 15 % of the tokens each time. Classifier:
accuracy. Sentence embeddings: how often a sentence's nearest one is its own other side."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_run_option(parser)
    parser.add_argument("--data", help="text to score on, named as in data.test; else the run's")
    parser.add_argument("--beam-size", type=int, help="hypotheses kept alive; 1 is greedy; else the run's")
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty; else the run's")
    parser.add_argument(
        "--bleu-tokenizer",
        choices=get_args(BleuTokenizer),
        help="sacreBLEU's tokenizer for BLEU; else the run's, or that of the target language",
    )
    parser.add_argument("--show", type=int, default=0, help="right, and as many wrong, translations to print")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_device_option(parser)
    options = parser.parse_args(arguments)
    if options.show < 0:
        raise ValueError(f"--show is {options.show}; it must be 0 or more")

    from transformer.checkpoint.pretrained import find_pretrained
    from transformer.config.files import load_settings

    found, checkpoint = find_pretrained(options.run)
    settings = load_settings(found.config)
    is_translation = settings.trained_task == "translation"
    if not is_translation and (options.beam_size, options.alpha, options.show) != (None, None, 0):
        raise ValueError(
            f"the run's task is {settings.trained_task}; --beam-size, --alpha and --show are for translations"
        )
    if not is_translation and options.bleu_tokenizer is not None:
        raise ValueError(f"the run's task is {settings.trained_task}; --bleu-tokenizer is for translations")
    options.data = options.data or settings.data.test
    if options.data is None:
        raise ValueError("the run names no data.test; pass --data with the text to evaluate on")
    tell(f"scoring {checkpoint} on {options.data}")
    score = score_translation if is_translation else score_validation
    values, text = score(options, settings)
    if options.json:
        text = json.dumps({"checkpoint": str(checkpoint), "data": options.data, **values})
    print(text)


def score_translation(options: Namespace, settings: Settings) -> tuple[dict[str, Any], str]:
    from transformer.data.corpus import load_parallel
    from transformer.data.tokenizers.moses import MosesTokenizer
    from transformer.decoding.translator import Translator
    from transformer.evaluation.bleu import choose_tokenizer, make_bleu
    from transformer.evaluation.metrics import bracket_f1, corpus_scores, tokenized_bleu
    from transformer.evaluation.report import examples, phenomenon_rows, phenomenon_table, score_table

    bleu_tokenizer = options.bleu_tokenizer or choose_tokenizer(settings.data)
    make_bleu(bleu_tokenizer)  # refuses one that is not installed before anything is translated
    translator = Translator.from_pretrained(options.run, device=options.device)
    table = load_parallel(options.data, settings.data.source, settings.data.target)
    sources, references = list(table["source"]), list(table["target"])
    outputs = translator.translate(sources, beam_size=options.beam_size, alpha=options.alpha)
    scores = corpus_scores(outputs, references, bleu_tokenizer)
    has_phenomena = "phenomena" in table.column_names
    rows = list(phenomenon_rows(sources, outputs, references, table["phenomena"])) if has_phenomena else []
    values = asdict(scores) | {"phenomena": {row.phenomenon: row._asdict() for row in rows}}
    parts = [score_table(scores), *([phenomenon_table(rows)] if rows else [])]
    if isinstance(translator.tokenizer, MosesTokenizer):
        bleu, signature = tokenized_bleu(outputs, references, translator.tokenizer.target.cut)
        values |= {"tokenized_bleu": bleu, "tokenized_bleu_signature": signature}
        parts.append(f"BLEU of Moses' words in small letters  {bleu:.2f}   {signature}")
    if settings.data.target == "parse":
        values["bracket_f1"] = bracket_f1(outputs, references)
        parts.append(f"bracket F1   {values['bracket_f1']:.1f}")
    parts += examples(sources, outputs, references, options.show)
    return values, "\n\n".join(parts)


FIGURES = {
    "loss": ("loss", "{:.4f} nats"),
    "perplexity": ("perplexity", "{:.3f}"),
    "bits_per_byte": ("bits per byte", "{:.4f}"),
    "accuracy": ("accuracy", "{:.1f} %"),
    "p@1": ("P@1", "{:.1f} %"),
    "p@1_reversed": ("P@1 reversed", "{:.1f} %"),
}
"""What validation computes, as it is printed."""


def score_validation(options: Namespace, settings: Settings) -> tuple[dict[str, Any], str]:
    """The figures that training computes on its validation text, of this one."""
    from transformer.checkpoint.pretrained import load_pretrained
    from transformer.tasks import classification, language_model, masked_language_model, sentence_embedding

    tasks = {
        "language_model": language_model,
        "masked_language_model": masked_language_model,
        "classification": classification,
        "sentence_embedding": sentence_embedding,
    }
    task = settings.trained_task
    model, tokenizer, _ = load_pretrained(options.run, task=task, device=options.device)
    values = tasks[task].make_validation(options.data, tokenizer, settings)(model)
    rows = [(FIGURES[name][0], FIGURES[name][1].format(value)) for name, value in values.items()]
    return values, "\n".join(f"{name:<13}  {value}" for name, value in rows)
