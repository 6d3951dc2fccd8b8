"""How well CTranslate2's translations agree with those of our own search, and the speed of both.

python benchmarks/engines.py --run RUN [--data TEXT] [--lines 1000] [--quantization int8] [--alpha 1.5]
    [--patience 1]

Translates the run's test text with `Translator` and `CTranslate2Translator`, greedily and with a beam of 4.
Each translates twice, in turn. Prints for each search: the number of identical lines; the largest difference
between the two scores of a line; how many of CTranslate2's outputs score lower or higher than ours; the lines
that differ, with both scores; BLEU by sacreBLEU; and the shorter of each engine's two times. Needs the extra
`convert`.
"""

import argparse
import platform
import time
from collections.abc import Sequence

import ctranslate2
import torch

from transformer.checkpoint.opening import open_run
from transformer.convert import engine
from transformer.convert.engine import CTranslate2Translator
from transformer.data.corpus import load_parallel
from transformer.decoding.translation import Translation
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import corpus_scores

SEARCHES = (("greedy", 1), ("beam 4", 4))
SHOWN = 20
CLOSE = 1e-4
"""How far two float32 computations of the same score may differ."""


def timed(
    translator: Translator | CTranslate2Translator, lines: Sequence[str], beam_size: int, alpha: float | None
) -> tuple[list[Translation], float]:
    started = time.perf_counter()
    found = translator.translate_n_best(lines, n_best=1, beam_size=beam_size, alpha=alpha)
    return [outputs[0] for outputs in found], time.perf_counter() - started


def print_differences(ours: list[Translation], theirs: list[Translation]) -> None:
    pairs = list(zip(ours, theirs, strict=True))
    differing = [number for number, (one, other) in enumerate(pairs) if one.text != other.text]
    largest = max(abs(one.score - other.score) for one, other in pairs)
    share = 100 * (1 - len(differing) / len(pairs))
    print(f"  identical {len(pairs) - len(differing)} of {len(pairs)} ({share:.2f} %)")
    print(f"  largest difference of scores {largest:.1e}")
    lower = sum(other.score < one.score - CLOSE for one, other in pairs)
    higher = sum(other.score > one.score + CLOSE for one, other in pairs)
    print(f"  CTranslate2's output scores lower for {lower} lines, higher for {higher}")
    for number in differing[:SHOWN]:
        print(f"    line {number + 1}")
        for name, output in zip(("torch", "ctranslate2"), pairs[number], strict=True):
            print(f"      {name:<12}{output.score:.6f}  {output.text}")
    if len(differing) > SHOWN:
        print(f"    and {len(differing) - SHOWN} more")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--data", help="text, named as in data.test (default: the run's)")
    parser.add_argument("--lines", type=int, default=1000, help="number of lines to translate")
    parser.add_argument("--quantization", default="float32", help="float32, bfloat16 or int8")
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty (default: the run's)")
    parser.add_argument("--patience", type=int, default=engine.PATIENCE, help="CTranslate2's option")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args()
    engine.PATIENCE = options.patience

    data = open_run(options.run, task="translation").settings.data
    table = load_parallel(options.data or str(data.test), data.source, data.target)
    sources, references = list(table["source"])[: options.lines], list(table["target"])[: options.lines]
    translators = {
        "torch": Translator.from_pretrained(options.run, device=options.device),
        f"ctranslate2 {options.quantization}": CTranslate2Translator.from_pretrained(
            options.run, device=options.device, quantization=options.quantization
        ),
    }
    print(
        f"{platform.machine()}, {options.device}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, ctranslate2 {ctranslate2.__version__}; {options.data or data.test}, "
        f"{len(sources)} lines"
    )
    for translator in translators.values():
        translator.translate(sources[:20])  # warm-up
    for search, beam_size in SEARCHES:
        runs = [
            {
                name: timed(translator, sources, beam_size, options.alpha)
                for name, translator in translators.items()
            }
            for _ in range(2)
        ]
        print(search)
        print_differences(*(outputs for outputs, _ in runs[0].values()))
        for name in translators:
            scores = corpus_scores([output.text for output in runs[0][name][0]], references)
            seconds = min(run[name][1] for run in runs)
            print(f"  {name:<22}{scores.bleu:.2f} BLEU  {len(sources) / seconds:,.0f} lines a second")


if __name__ == "__main__":
    main()
