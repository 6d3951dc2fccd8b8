"""Methods from after 2017 on Multi30k: do they beat the published Transformer-Tiny recipe?

python benchmarks/multi30k.py [--methods r_drop bpe_dropout] [--updates 4000] [--seeds 1] [--part val]
                              [--teachers RUN ...] [--output runs/multi30k] [--figures docs/figures/multi30k]
python benchmarks/multi30k.py --compare tiny.mean.8000 r_drop.mean.8000 [--part test_2016_flickr]

Trains configs/multi30k_tiny.yaml with these methods (none by default), with one thread, and translates the
validation text or another part with beam 5. Each training is scored twice: with the mean of its last 10
checkpoints, and with an exponential moving average of the weights. Figures are BLEU of lower-cased Moses
tokens. With fewer updates than the recipe's 8,000, the learning rate is the same at each share of the
training. Runs continue after an interruption; finished ones are not repeated. These methods have not been
measured yet.

Methods are chosen on the validation text with half the updates and one seed. `--compare` prints, for the
figures of two systems, both means over the seeds and a paired bootstrap test of their difference, in which
each sample of sentences is scored with every seed. Needs the extra `moses`.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformer.kernels.allocator import keep_few_shapes

keep_few_shapes()  # before torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measuring import machine  # noqa: E402
from multi30k_methods import METHODS, averaging_adam, task_with, write_average  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from silence_table import mean_bleu, paired_bootstrap, read_counts  # noqa: E402
from silences import commit, counts, shortened  # noqa: E402

import transformer  # noqa: E402
from transformer.checkpoint.averaging import average_checkpoints  # noqa: E402
from transformer.checkpoint.run import Run  # noqa: E402
from transformer.config import Settings  # noqa: E402
from transformer.evaluation.scored import Scored  # noqa: E402
from transformer.files import write_whole  # noqa: E402
from transformer.tasks.translation import TranslationTask  # noqa: E402
from transformer.training.schedule import learning_rate  # noqa: E402

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "configs" / "multi30k_tiny.yaml"


def settings_of(options: argparse.Namespace, seed: int) -> Settings:
    recipe = transformer.load_settings(RECIPE)
    if options.updates != recipe.training.max_steps:
        recipe = shortened(recipe, options.updates, recipe.training.tokens_per_batch)
    files = {
        part: getattr(recipe.data, part).replace("data/", f"{options.data}/", 1)
        for part in ("train", "valid", "test")
    }
    output = options.output / f"{system(options.methods)}_{options.updates}_{seed}"
    return replace(recipe, output=str(output), seed=seed, data=replace(recipe.data, **files))


def system(methods: Sequence[str]) -> str:
    """The name of a set of methods in the names of files."""
    return "+".join(sorted(methods)) or "tiny"


def train(settings: Settings, task: type[TranslationTask]) -> Run:
    """Train with the optimizer that also averages, and with the recipe's rates."""
    run = transformer.train(
        settings,
        task=task,
        optimizer=averaging_adam(settings),
        schedule=lambda step: learning_rate(step, settings.model.d_model, settings.training),
        resume=True,
    )
    return Run(run)


def measure(options: argparse.Namespace, seed: int) -> None:
    settings = settings_of(options, seed)
    task = task_with(options.methods, options.teachers)
    text = f"{options.data}/multi30k/{options.part}"
    done = {weights: figure_file(options, weights, seed) for weights in ("mean", "moving")}
    if all(file.exists() for file in done.values()):
        return
    started = time.perf_counter()
    run = train(settings, task)
    checkpoints = {
        "mean": average_checkpoints(run, min(settings.training.keep, len(run.steps()))),
        "moving": write_average(run),
    }
    for weights, checkpoint in checkpoints.items():
        trained = transformer.load_pretrained(checkpoint, task=task)
        values, _, scored = task.score(trained, text)
        cut = trained.tokenizer.target.cut  # type: ignore[attr-defined]
        figures = {
            "system": system(options.methods),
            "weights": weights,
            "seed": seed,
            "part": options.part,
            "bleu": values["tokenized_bleu"],
            "bleu_signature": values["tokenized_bleu_signature"],
            "updates": options.updates,
            "seconds_in_all": round(time.perf_counter() - started),
            "commit": commit(),
            "hardware": machine(torch.device("cpu")),
            "date": datetime.now(UTC).date().isoformat(),
        }
        words = [Scored(each.source, cut(each.reference), cut(each.output)) for each in scored]
        write_figures(done[weights], figures, words)
        print(f"{done[weights].stem}: {figures['bleu']:.2f} BLEU", file=sys.stderr, flush=True)


def figure_file(options: argparse.Namespace, weights: str, seed: int) -> Path:
    name = f"{system(options.methods)}.{weights}.{options.updates}.{options.part}.{seed}.json"
    return Path(options.figures) / name


def write_figures(file: Path, figures: dict[str, Any], words: list[Scored]) -> None:
    """Write the scores, the words of the translations, and the counts that BLEU is computed from."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file.with_suffix(".txt"), "".join(f"{each.output}\n" for each in words))
    write_whole(file.with_suffix(".counts"), "".join(f"{counts(each, 'none')}\n" for each in words))
    write_whole(file, json.dumps(figures, indent=1) + "\n")


def compare(folder: Path, part: str, names: Sequence[str]) -> str:
    """The mean BLEU of two systems over their seeds, and p of the difference.

    A name is a system with its weights and updates, such as `tiny.mean.8000`.
    """
    counted = [seeds_of(folder, f"{name}.{part}") for name in names]
    means = [mean_bleu(rows) for rows in counted]
    p = paired_bootstrap(*counted)
    lines = [f"{name}: {mean:.2f} BLEU, mean of {len(rows)} seeds"
             for name, mean, rows in zip(names, means, counted, strict=True)]  # fmt: skip
    return "\n".join([*lines, f"difference {means[1] - means[0]:+.2f}, p = {p:.3f} (paired bootstrap)"])


def seeds_of(folder: Path, name: str) -> NDArray[np.int64]:
    """The counts of all seeds: (seeds, sentences, numbers)."""
    files = sorted(folder.glob(f"{name}.*.counts"))
    if not files:
        raise ValueError(f"{folder} has no figures of {name}")
    return np.stack([read_counts(file) for file in files])


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.compare:
        print(compare(options.figures, options.part, options.compare))
        return
    torch.set_num_threads(1)
    for seed in options.seeds:
        measure(options, seed)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = " ".join(f"{name}: {text}" for name, text in METHODS.items())
    made.add_argument(
        "--methods", nargs="+", choices=METHODS, default=[], metavar="METHOD", help=methods.replace("%", "%%")
    )
    made.add_argument("--teachers", nargs="+", default=[], metavar="RUN", help="runs to learn from")
    made.add_argument("--updates", type=int, default=4000, help="updates of each training")
    made.add_argument("--seeds", nargs="+", type=int, default=[1], help="a training for each seed")
    made.add_argument("--part", default="val", help="text that is translated, in the folder multi30k")
    made.add_argument("--compare", nargs=2, metavar="SYSTEM", help="METHODS.WEIGHTS.UPDATES of each")
    data = Path(os.environ.get("TRANSFORMER_DATA", "data"))
    made.add_argument("--data", type=Path, default=data, help="folder that contains multi30k")
    made.add_argument("--output", type=Path, default=Path("runs/multi30k"), help="folder of the runs")
    made.add_argument(
        "--figures", type=Path, default=ROOT / "docs/figures/multi30k", help="folder of the figures"
    )
    return made


if __name__ == "__main__":
    main()
