"""Table 3 at a small scale: the variations of all rows, with smaller models, on toyland.

python benchmarks/table3.py [--seeds 3] [--processes 2] [--rows base A1] [--output runs/table3_toyland]

The models are those of the paper, with widths divided by 8, and heads and layers divided by 2 (base: N = 3,
d_model 64, d_ff 256, h = 4, d_k 16). They are trained on 8,000 sentences, and otherwise as in
configs/toyland.yaml. Prints a table in Markdown: perplexity per token without smoothing (geometric mean over
the seeds), BLEU of greedy search on 500 unseen sentences, and whether a row differs from base in the same
direction as in the paper. The difference has a 95 % interval (Student's t). For this interval, the variance
of log perplexity and of BLEU between seeds is pooled over all rows. The paper trained each model once, so its
differences of up to 0.05 in perplexity and 0.1 in BLEU count as equal. Existing runs are reused.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import transformer
from transformer.evaluation.table3 import ROWS, Table3Row

ROOT = Path(__file__).parents[1]
WIDTHS, HEADS, LAYERS = 8, 2, 2  # divisors of the paper's sizes
PAIRS, TOKENS_PER_BATCH = 8000, 1000
UPDATES, RATE_SCALE = 2400, 0.5  # the paper: 100,000 and 1


def settings_of(row: Table3Row, seed: int, output: Path) -> transformer.Settings:
    paper, recipe = row.config(), transformer.load_settings(ROOT / "configs" / "toyland.yaml")
    heads = max(1, paper.num_heads // HEADS)
    model = replace(
        paper,
        d_model=paper.d_model // WIDTHS,
        d_ff=paper.d_ff // WIDTHS,
        num_heads=heads,
        d_k=paper.num_heads * paper.key_width // WIDTHS // heads,
        d_v=paper.num_heads * paper.value_width // WIDTHS // heads,
        num_layers=paper.num_layers // LAYERS,
        vocab_size=recipe.data.vocab_size,
        max_positions=recipe.data.max_tokens,
    )
    steps = row.training.get("max_steps", 100_000) * UPDATES // 100_000
    training = replace(
        recipe.training,
        max_steps=steps,
        warmup_steps=steps // 4,
        rate_scale=RATE_SCALE,
        cooldown=0.5,
        tokens_per_batch=TOKENS_PER_BATCH,
        label_smoothing=row.training.get("label_smoothing", 0.1),
        valid_every=steps,
        valid_sample=500,
        save_every=steps,
        keep=1,
    )
    data = replace(recipe.data, train=f"toyland:train[:{PAIRS}]", valid="toyland:test[:500]")
    name = str(output / f"{row.name}_{seed}")
    return replace(recipe, output=name, seed=seed, model=model, data=data, training=training)


def measure(settings: transformer.Settings) -> dict[str, Any]:
    """The scores of the last validation of a run, which is trained if it does not exist."""
    log = Path(settings.output) / "log.jsonl"
    if not (values := last_validation(log, settings.training.max_steps)):
        torch.set_num_threads(1)
        transformer.train(settings, resume=True)
        values = last_validation(log, settings.training.max_steps)
    print(f"{settings.output}: {values}", file=sys.stderr, flush=True)
    return values


def last_validation(log: Path, steps: int) -> dict[str, Any]:
    events = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.exists() else ()
    found = [event for event in events if event["event"] == "valid" and event["step"] == steps]
    return found[-1] if found else {}


class Figure:
    """One figure for all rows, base first: our values (rows, seeds) and the paper's (rows)."""

    def __init__(self, ours: list[list[float]], paper: list[float], about_equal: float) -> None:
        seeds = len(ours[0])
        freedom = len(ours) * (seeds - 1)
        deviation = math.sqrt(np.var(ours, axis=1, ddof=1).mean())  # one for all rows
        self.means = np.mean(ours, axis=1)
        self.half = stats.t.ppf(0.975, freedom) * deviation / math.sqrt(seeds)  # of a mean's 95 % interval
        self.paper = paper
        self.about_equal = about_equal

    def against_base(self, row: int) -> str:
        ours, paper = self.means[row] - self.means[0], self.paper[row] - self.paper[0]
        if row == 0:
            return ""
        if abs(ours) < math.sqrt(2) * self.half:
            return "not told apart"
        if abs(paper) < self.about_equal + 1e-9:
            return "different; about equal in the paper"
        return "as in the paper" if (ours > 0) == (paper > 0) else "the other way round"


def report(rows: list[Table3Row], runs: list[list[dict[str, Any]]]) -> None:
    logs = [[math.log(run["perplexity"]) for run in row] for row in runs]
    perplexity = Figure(logs, [row.perplexity for row in rows], 0.05)
    bleu = Figure([[run["bleu"] for run in row] for row in runs], [row.bleu for row in rows], 0.1)
    print("| row | changes | PPL, paper | PPL | against base | BLEU, paper | BLEU | against base |")
    print("| --- | --- | ---: | ---: | --- | ---: | ---: | --- |")
    for number, row in enumerate(rows):
        changes = ", ".join(f"{name} {value}" for name, value in (row.model | row.training).items())
        cells = [row.name, changes]
        cells += [f"{row.perplexity:.2f}", f"{math.exp(perplexity.means[number]):.2f}"]
        cells += [perplexity.against_base(number), str(row.bleu), f"{bleu.means[number]:.1f}"]
        print("| " + " | ".join([*cells, bleu.against_base(number)]) + " |")
    print(f"\n95 % interval of a row: PPL ± {100 * perplexity.half:.1f} %, BLEU ± {bleu.half:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each row, at least 2")
    parser.add_argument("--processes", type=int, default=2, help="parallel training runs, one thread each")
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--rows", nargs="+", choices=names, help="rows to train in addition to base (default: all)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/table3_toyland"), help="folder of the runs")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; an interval needs at least 2")
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes started below
    rows = [row for row in ROWS if row.name in ("base", *(options.rows or [row.name]))]
    todo = [settings_of(row, seed, options.output) for seed in range(1, options.seeds + 1) for row in rows]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn, max_tasks_per_child=1) as pool:
        results = list(pool.map(measure, todo))
    print(f"{platform.machine()}, one thread a run, torch {torch.__version__}, {options.seeds} seeds\n")
    report(rows, [results[number :: len(rows)] for number in range(len(rows))])


if __name__ == "__main__":
    main()
