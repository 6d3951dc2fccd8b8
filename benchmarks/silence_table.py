"""The table of `silences.py`, from its folder of figures alone: means, intervals and paired bootstrap tests.

The variance between seeds is pooled over all variants whose runs all learned to translate, which gives
narrower intervals than three seeds of one variant could. Needs the extra `benchmarks`.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from silence_variants import VARIANTS

from transformer.evaluation.bleu import make_bleu

Runs = dict[int, dict[str, Any]]
"""The figures of a variant's runs, by seed."""
SAMPLES, BOOTSTRAP_SEED = 1000, 12345  # sacreBLEU's
FAILED = 0.5
"""A run has failed if it diverged, or if its BLEU is less than this share of the default's mean."""


def table(folder: Path) -> str:
    """All variants that have figures in `folder`, in the order of `VARIANTS`, as a Markdown table."""
    runs = read_figures(folder)
    if "default" not in runs:
        raise ValueError(f"{folder} has no figures of the variant default, with which all are compared")
    bleu, chrf = Metric.of(runs, "bleu"), Metric.of(runs, "chrf")
    logs = Metric.of(runs, "perplexity", math.log)
    lines = [
        "| variant | what it changes | perplexity | difference | BLEU | difference | p of each seed | chrF | "
        "BLEU of each seed |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for name, by_seed in runs.items():
        change = next(iter(by_seed.values()))["change"]
        cells = [f"`{name}`", change, *logs.in_per_cent(name), *bleu.cells(name)]
        cells += [", ".join(p_values(folder, runs["default"], name, by_seed)), chrf.cells(name)[0]]
        cells.append(", ".join(run_text(by_seed[seed]) for seed in sorted(by_seed)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *notes(runs, bleu)])


def read_figures(folder: Path) -> dict[str, Runs]:
    found: dict[str, Runs] = defaultdict(dict)
    for file in sorted(folder.glob("*.json")):
        figures = json.loads(file.read_text(encoding="utf-8"))
        found[figures["variant"]][figures["seed"]] = figures
    known = [name for name in VARIANTS if name in found]
    return {name: found[name] for name in known}


def failed(run: Mapping[str, Any], default: float) -> bool:
    return "diverged" in run or run["bleu"] < FAILED * default


@dataclass(frozen=True)
class Metric:
    """One figure of all runs: its values by variant, and the standard deviation between seeds."""

    values: dict[str, list[float]]
    """Only of variants of which no run has failed."""
    others: dict[str, list[float]]
    """Of the other variants, without the runs that diverged."""
    deviation: float
    freedom: int

    @classmethod
    def of(cls, runs: Mapping[str, Runs], name: str, change: Any = float) -> "Metric":
        scores = [run["bleu"] for run in runs["default"].values() if "diverged" not in run]
        default = float(np.mean(scores)) if scores else 0.0
        values = {
            variant: [change(run[name]) for run in by_seed.values()]
            for variant, by_seed in runs.items()
            if not any(failed(run, default) for run in by_seed.values())
        }
        others = {
            variant: [change(run[name]) for run in by_seed.values() if "diverged" not in run]
            for variant, by_seed in runs.items()
            if variant not in values
        }
        freedom = sum(len(each) - 1 for each in values.values())
        squares = sum(float(np.var(each)) * len(each) for each in values.values())
        return cls(values, others, math.sqrt(squares / freedom) if freedom else math.nan, freedom)

    def half(self, *counts: int) -> float:
        """Half of the 95 % interval of a mean of so many runs, or of the difference of two such means."""
        from scipy import stats

        if not self.freedom:
            return math.nan
        spread = self.deviation * math.sqrt(sum(1 / count for count in counts))
        return float(stats.t.ppf(0.975, self.freedom)) * spread

    def difference(self, name: str) -> tuple[float, float] | None:
        """The lead over the default and half of its interval; None if a run of either has failed."""
        if name == "default" or not {name, "default"} <= self.values.keys():
            return None
        ours, default = self.values[name], self.values["default"]
        return float(np.mean(ours) - np.mean(default)), self.half(len(ours), len(default))

    def failures(self, name: str, change: Any = float) -> str:
        """The value of each run of a variant that has failed, instead of a mean."""
        found = ", ".join(f"{change(value):.3g}" for value in self.others[name])
        return f"failed: {found}" if found else "failed"

    def cells(self, name: str) -> list[str]:
        """Mean and difference, each with its interval."""
        if name not in self.values:
            return [self.failures(name), ""]
        ours, lead = self.values[name], self.difference(name)
        mean = f"{np.mean(ours):.2f} ± {self.half(len(ours)):.2f}"
        return [mean, f"{lead[0]:+.2f} ± {lead[1]:.2f}" if lead else ""]

    def in_per_cent(self, name: str) -> list[str]:
        """The same for values that are logarithms: the geometric mean, and the difference in per cent."""
        if name not in self.values:
            return [self.failures(name, math.exp), ""]
        ours, lead = self.values[name], self.difference(name)
        mean = f"{math.exp(np.mean(ours)):.2f} ± {100 * self.half(len(ours)):.1f} %"
        return [mean, f"{100 * math.expm1(lead[0]):+.1f} ± {100 * lead[1]:.1f} %" if lead else ""]


def p_values(folder: Path, default: Runs, name: str, by_seed: Runs) -> Iterator[str]:
    """p of the difference in BLEU from the default with the same seed, for each seed that both have."""
    if name == "default":
        return
    for seed in sorted(default.keys() & by_seed.keys()):
        if "diverged" in default[seed] or "diverged" in by_seed[seed]:
            yield "-"
            continue
        ours, theirs = (read_counts(folder / f"{each}_{seed}.counts") for each in (name, "default"))
        yield f"{paired_bootstrap(ours, theirs):.3f}"


def read_counts(file: Path) -> NDArray[np.int64]:
    """One row for each sentence: the numbers that `silences.counts` writes."""
    return np.loadtxt(file, dtype=np.int64, ndmin=2)


def bleu_of(counts: Sequence[int] | NDArray[np.int64]) -> float:
    """BLEU of the summed counts of some sentences."""
    lengths, matches, totals = counts[:2], counts[2:6], counts[6:]
    bleu = make_bleu("13a")  # any tokenizer; the words have been counted
    score = bleu.compute_bleu(
        [int(each) for each in matches],
        [int(each) for each in totals],
        int(lengths[0]),
        int(lengths[1]),
        smooth_method=bleu.smooth_method,
    )
    return float(score.score)


def mean_bleu(counts: NDArray[np.int64]) -> float:
    """BLEU of all sentences; with several seeds, the mean of theirs."""
    sums = counts.sum(axis=-2)
    return float(np.mean([bleu_of(each) for each in sums.reshape(-1, sums.shape[-1])]))


def paired_bootstrap(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """p by sacreBLEU's paired bootstrap test, from the counts of the same sentences by two systems.

    The counts may also be those of several seeds, (seeds, sentences, numbers); then means over the seeds are
    compared, and each sample has the same sentences of all seeds.
    """
    observed = abs(mean_bleu(one) - mean_bleu(other))
    if observed == 0:
        return 1.0
    count = one.shape[-2]
    rows = np.random.default_rng(BOOTSTRAP_SEED).choice(count, size=(SAMPLES, count), replace=True)
    differences = np.array(
        [abs(mean_bleu(one[..., sample, :]) - mean_bleu(other[..., sample, :])) for sample in rows]
    )
    larger = int((differences - differences.mean() > observed).sum())
    return (larger + 1) / (SAMPLES + 1)


def run_text(run: Mapping[str, Any]) -> str:
    return "diverged" if "diverged" in run else f"{run['bleu']:.2f}"


def notes(runs: Mapping[str, Runs], bleu: Metric) -> Iterator[str]:
    first = next(iter(runs["default"].values()))
    yield f"{first['hardware']}; {first['command']}"
    yield f"BLEU: `{first.get('bleu_signature')}`. chrF: `{first.get('chrf_signature')}`."
    yield (
        "Perplexity: per token of the validation text, without smoothing. Intervals: 95 %, Student's t with "
        f"{bleu.freedom} degrees of freedom; standard deviation of BLEU between seeds: {bleu.deviation:.2f}."
    )
    lost = [name for name in runs if name not in bleu.values]
    if lost:
        yield f"A run of {', '.join(lost)} diverged, or has less than half of the default's BLEU."
