"""Table 3 in small: every row's change, in proportion, on toyland.

python benchmarks/table3.py [--seeds 3] [--processes 2] [--rows base A1] [--output runs/table3_toyland]

Each row of the paper's table with widths / 8 and layers / 2 (base: N = 3, d_model 64, d_ff 256, h 8), trained
on 2,000 sentences, otherwise as in configs/toyland.yaml. Prints, as Markdown, perplexity per token without
smoothing and BLEU by greedy search on 500 unseen sentences, mean and 95 % interval (Student's t) over the
seeds, and whether a row differs from base (Welch's 95 % interval) as in the paper. A run that is there is
not trained again.
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
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

import transformer
from transformer.evaluation.table3 import ROWS, Row

ROOT = Path(__file__).parents[1]
WIDTHS, LAYERS = 8, 2  # what the paper's widths and layers are divided by
PAIRS, TOKENS_PER_BATCH = 2000, 750
UPDATES, RATE_SCALE = 600, 0.5  # the paper: 100,000 and 1
ABOUT_EQUAL = {"perplexity": 0.05, "bleu": 0.1}
"""The paper gives one training a row: differences below these are no ordering."""


def settings_of(row: Row, seed: int, output: Path) -> transformer.Settings:
    paper, recipe = row.config(), transformer.load_settings(ROOT / "configs" / "toyland.yaml")
    model = replace(
        paper,
        d_model=paper.d_model // WIDTHS,
        d_ff=paper.d_ff // WIDTHS,
        d_k=paper.key_width // WIDTHS,
        d_v=paper.value_width // WIDTHS,
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


def measure(settings: transformer.Settings) -> dict[str, float]:
    """The figures of the last validation, of a run that is trained if it is not there."""
    log = Path(settings.output) / "log.jsonl"
    if not (values := last_validation(log, settings.training.max_steps)):
        torch.set_num_threads(1)
        transformer.train(settings, resume=True)
        values = last_validation(log, settings.training.max_steps)
    print(f"{settings.output}: {values}", file=sys.stderr, flush=True)
    return values


def last_validation(log: Path, steps: int) -> dict[str, float]:
    events = map(json.loads, log.read_text(encoding="utf-8").splitlines()) if log.exists() else ()
    return {
        name: value
        for event in events
        if event["event"] == "valid" and event["step"] == steps
        for name, value in event.items()
        if name in ("perplexity", "bleu", "exact_match")
    }


class Difference(NamedTuple):
    """How a row differs from base in one figure: the ends of the 95 % interval (Welch)."""

    low: float
    high: float

    def verdict(self, paper: float, about_equal: float) -> str:
        is_apart = self.low > 0 or self.high < 0
        if not is_apart:
            return "not told apart"
        if abs(paper) < about_equal + 1e-9:
            return "apart, the paper's equal"
        return "as the paper" if (self.low > 0) == (paper > 0) else "the other way"


def with_interval(values: list[float]) -> str:
    mean = np.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{mean:.2f} ± {half:.2f}"


def line(row: Row, figures: list[dict[str, float]], base: list[dict[str, float]]) -> str:
    cells = [row.name, " ".join(f"{name} {value}" for name, value in (row.model | row.training).items())]
    verdicts = []
    for name in ("perplexity", "bleu"):
        ours, of_base = ([run[name] for run in runs] for runs in (figures, base))
        paper, paper_base = getattr(row, name), getattr(ROWS[0], name)
        cells += [f"{paper}", with_interval(ours)]
        if row.name != "base" and len(ours) > 1:
            interval = stats.ttest_ind(ours, of_base, equal_var=False).confidence_interval()
            verdicts.append(Difference(*interval).verdict(paper - paper_base, ABOUT_EQUAL[name]))
    return "| " + " | ".join([*cells, *(verdicts or ["", ""])]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row")
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], help="else all")
    parser.add_argument("--output", type=Path, default=Path("runs/table3_toyland"), help="folder of the runs")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
    rows = [row for row in ROWS if row.name in (options.rows or [row.name])]
    todo = [settings_of(row, seed, options.output) for seed in range(1, options.seeds + 1) for row in rows]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn, max_tasks_per_child=1) as pool:
        results = list(pool.map(measure, todo))
    print(f"{platform.machine()}, one thread a run, torch {torch.__version__}, {options.seeds} seeds\n")
    print("| row | changes | PPL, paper | PPL | BLEU, paper | BLEU | PPL against base | BLEU against base |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- | --- |")
    figures = {row.name: results[number :: len(rows)] for number, row in enumerate(rows)}
    for row in rows:
        print(line(row, figures[row.name], figures["base"]))


if __name__ == "__main__":
    main()
