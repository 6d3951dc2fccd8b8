"""Search errors, and how the rule for closing a sentence affects scores, steps and time.

    python benchmarks/search.py --run RUN [--data TEXT] [--beam 4] [--alpha 0.6 1.5] [--lines N] [--show]

Translates the run's test text greedily and with a beam. Prints for each search the lines that equal their
reference, BLEU, the number of hypotheses that the model extends, how many of these could still win when they
were extended, and the seconds. A row "full beam closes" shows another rule: a sentence closes as soon as
`beam_size` hypotheses have ended. (Many implementations have this rule, and this one had it until November
2026.) An observer of the search derives this row.

Then counts the lines that greedy search gets right and beam search gets wrong. It is a search error if the
greedy output has the better score, and a model error if the wrong output has. `--show` prints these lines.
"""

import argparse
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from transformer.data.corpus import load_parallel
from transformer.decoding.beam import BeamStep, beam_search
from transformer.decoding.length_penalty import length_penalty
from transformer.decoding.translation import Translation
from transformer.decoding.translator import Translator, as_outputs
from transformer.evaluation.metrics import corpus_scores


@dataclass
class FullBeamCloses:
    """Derives the result of a search in which a sentence closes when `beam_size` hypotheses have ended."""

    beam_size: int
    results: dict[int, tuple[list[int], float]] = field(default_factory=dict)
    extended: int = 0
    """Hypotheses that the model would have extended."""

    def __call__(self, step: BeamStep) -> None:
        for place, row in enumerate(step.after.rows.tolist()):
            if row in self.results:
                continue
            tokens, scores, lengths = (part[place] for part in step.finished)
            if row in step.closed or int((scores > -torch.inf).sum()) >= self.beam_size:
                self.results[row] = tokens[0, : int(lengths[0])].tolist(), float(scores[0])
            else:
                self.extended += step.after.scores.shape[1]


class Extended:
    """Counts the hypotheses that the model extends in a search, and how many of them could still win."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.limits = torch.empty(0)
        self.count = self.could_win = 0

    def __call__(self, step: BeamStep) -> None:
        rows = step.after.rows.tolist()
        is_open = torch.tensor([row not in step.closed for row in rows])
        bounds = step.after.scores / length_penalty(self.limits[step.after.rows], self.alpha)[:, None]
        self.count += int(is_open.sum()) * bounds.shape[1]
        self.could_win += int((bounds > step.finished.scores[:, :1])[is_open].sum())


def search(
    translator: Translator, lines: Sequence[str], beam_size: int, alpha: float
) -> tuple[list[Translation], list[Translation], Extended, int]:
    """The outputs by our rule and by the other one, and the hypotheses that each of them extends."""
    sources = translator.encode(lines)
    ours, theirs = [Translation("", 0.0, [])] * len(lines), [Translation("", 0.0, [])] * len(lines)
    extended, other = Extended(alpha), FullBeamCloses(beam_size)
    for rows in translator.batches(sources, beam_size):
        src_tokens = translator.right_padded([sources[row] for row in rows])
        other.results = {}

        def observe(step: BeamStep) -> None:
            extended(step)
            other(step)

        limits = extended.limits = torch.tensor([translator.limit(sources[row], []) for row in rows])
        options = {"beam_size": beam_size, "alpha": alpha, "max_length": limits, "observe": observe}
        found = translator.read_out(as_outputs(beam_search(translator.model, src_tokens, **options)))
        for place, row in enumerate(rows):
            ours[row] = found[place][0]
            ids, score = other.results[place]
            ids = [token for token in ids if token != translator.config.eos_id]
            [text] = translator.tokenizer.decode([ids])
            theirs[row] = Translation(text, score, ids)
    return ours, theirs, extended, other.extended


def seconds(translator: Translator, lines: Sequence[str], beam_size: int, alpha: float) -> float:
    started = time.perf_counter()
    translator.translate(lines, beam_size=beam_size, alpha=alpha)
    return time.perf_counter() - started


def print_errors(
    greedy: list[Translation],
    beam: list[Translation],
    lines: Sequence[str],
    references: Sequence[str],
    alpha: float,
    is_shown: bool,
) -> None:
    errors = {"search": 0, "model": 0}
    for line, reference, right, wrong in zip(lines, references, greedy, beam, strict=True):
        if right.text != reference or wrong.text == reference:
            continue
        penalty = length_penalty(len(right.tokens) + 1, alpha)
        kind = "search" if right.score / penalty > wrong.score + 1e-4 else "model"
        errors[kind] += 1
        if is_shown:
            print(f"  {kind} error: {line}")
            print(f"    greedy {right.score / penalty:8.4f}  {right.text}")
            print(f"    beam   {wrong.score:8.4f}  {wrong.text}")
    print(f"  right only greedily: {errors['search']} errors of the search, {errors['model']} of the model")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True)
    parser.add_argument("--data", help="default: the run's test text")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.6, 1.5])
    parser.add_argument("--lines", type=int)
    parser.add_argument(
        "--show", action="store_true", help="print the lines that only greedy search gets right"
    )
    options = parser.parse_args()

    from transformer.checkpoint.opening import find_pretrained
    from transformer.config.files import load_settings

    settings = load_settings(find_pretrained(options.run)[0].config)
    name = options.data or settings.data.test
    table = load_parallel(str(name), settings.data.source, settings.data.target)
    lines, references = (list(table[side])[: options.lines] for side in ("source", "target"))
    translator = Translator.from_pretrained(options.run, device="cpu")
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, torch {torch.__version__}, {threads} threads; {name}, {len(lines):,} lines")
    print(f"{'search':<34}{'exact':>8}{'BLEU':>8}{'extended':>11}{'could win':>11}{'seconds':>9}")

    def row(title: str, outputs: list[Translation], extended: int, could_win: object, taken: object) -> None:
        texts = [output.text for output in outputs]
        exact = sum(text == reference for text, reference in zip(texts, references, strict=True))
        bleu = corpus_scores(texts, references).bleu
        print(f"{title:<34}{exact:>8,}{bleu:>8.2f}{extended:>11,}{could_win:>11}{taken:>9}", flush=True)

    seconds(translator, lines[:50], 1, 0.0)  # warm-up
    greedy, _, extended, _ = search(translator, lines, 1, 0.0)
    row("greedy", greedy, extended.count, "", f"{seconds(translator, lines, 1, 0.0):.1f}")
    for alpha in options.alpha:
        beam, full, extended, other = search(translator, lines, options.beam, alpha)
        title = f"beam {options.beam}, alpha {alpha:g}"
        taken = f"{seconds(translator, lines, options.beam, alpha):.1f}"
        row(title, beam, extended.count, f"{extended.could_win:,}", taken)
        row(f"{title}, full beam closes", full, other, "", "")
        print_errors(greedy, beam, lines, references, alpha, options.show)
        print("  with the other rule:", end="")
        print_errors(greedy, full, lines, references, alpha, is_shown=False)


if __name__ == "__main__":
    main()
