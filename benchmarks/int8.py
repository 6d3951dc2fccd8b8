"""How much quality int8 loses: the same trained models in float32 and in int8, on a CPU.

    python benchmarks/int8.py --translation RUN [RUN ...] --language-model RUN [--lines N]

Prints for each translation run how many lines equal their reference, how many lines are the same in both
precisions, and BLEU with sacreBLEU's paired bootstrap. Prints for each language model its bits per byte. The
texts are the runs' test texts. `--lines` limits the number of lines to translate.
"""

import argparse
from collections.abc import Iterator

import torch
from measuring import machine

from transformer.checkpoint.pretrained import load_run
from transformer.data.corpus import load_parallel
from transformer.decoding.inference import freeze
from transformer.decoding.translator import Translator
from transformer.evaluation.comparison import exact_matches, paired_scores
from transformer.evaluation.scored import Scored
from transformer.kernels.int8 import has_int8_products
from transformer.tasks.language_model import LanguageModelTask
from transformer.trained import load_pretrained, text_to_score

PRECISIONS = "float32", "int8"


def compare_translations(run: str, limit: int | None) -> Iterator[str]:
    settings = load_pretrained(run, device="cpu").settings
    name = text_to_score(settings, None)
    table = load_parallel(name, settings.data.source, settings.data.target)
    sources, references = (list(table[side])[:limit] for side in ("source", "target"))
    float32, int8 = (
        list(map(Scored, sources, references, translated(run, precision, sources)))
        for precision in PRECISIONS
    )
    same = sum(one.output == other.output for one, other in zip(float32, int8, strict=True))
    exact = exact_matches(float32, int8)
    yield f"{name}, {len(sources):,} lines: {same:,} the same in both precisions"
    yield f"  equal to the reference: {exact[0]:.1f} % in float32, {exact[1]:.1f} % in int8"
    for score in paired_scores(float32, int8, "13a"):
        before, after = (
            f"{value:.2f} ± {interval:.2f}"
            for value, interval in zip(score.values, score.intervals, strict=True)
        )
        yield f"  {score.name} {before} in float32, {after} in int8, p = {score.p:.3f} ({score.signature})"


def translated(run: str, precision: str, sources: list[str]) -> list[str]:
    translator = Translator.from_pretrained(run, device="cpu", precision=precision)  # type: ignore[arg-type]
    return translator.translate(sources)


def compare_bits_per_byte(run: str) -> str:
    float32, int8 = (bits_per_byte(run, precision) for precision in PRECISIONS)
    return f"{run}: {float32:.4f} bits per byte in float32, {int8:.4f} in int8"


def bits_per_byte(run: str, precision: str) -> float:
    """The bits per byte of the run's test text, in the blocks that training uses."""
    model, tokenizer, settings = load_run(run, task="language_model", device="cpu")
    freeze(model, precision)  # type: ignore[arg-type]
    score = LanguageModelTask.validation(text_to_score(settings, None), tokenizer, settings)
    return score(model)["bits_per_byte"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--translation", nargs="+", default=[], metavar="RUN")
    parser.add_argument("--language-model", nargs="+", default=[], metavar="RUN")
    parser.add_argument("--lines", type=int)
    options = parser.parse_args()
    if not has_int8_products():
        parser.error("this CPU has no fast products of 8-bit integers; int8 would mean float32")
    print(machine(torch.device("cpu")))
    for run in options.translation:
        print(*compare_translations(run, options.lines), sep="\n", flush=True)
    for run in options.language_model:
        print(compare_bits_per_byte(run), flush=True)


if __name__ == "__main__":
    main()
