"""What each choice that the paper leaves open is worth: a short training for each, one change at a time.

python benchmarks/silences.py [--variants default zero_start] [--seeds 1 2 3] [--processes 1]
                              [--output runs/silences] [--figures docs/figures/silences] [--data data]
python benchmarks/silences.py --list
python benchmarks/silences.py --table [--figures docs/figures/silences]

Multi30k, English to German, with configs/multi30k_en_de.yaml shortened to 2,000 updates instead of 5,000.
After the same share of the training, the learning rate is the recipe's, and the mean of the last 8
checkpoints covers the same share. One thread per run: a run with its scores took 17 to 20 minutes of a core
of a Xeon with AMX, and the default reached 31.6, 32.0 and 33.1 BLEU. (On an AMD EPYC, a run with `--tokens
2048` took 14 minutes and reached 18.3 BLEU, too early to compare variants; with the rate falling to zero over
the second half it reached 17.3.)

Runs continue after an interruption, and finished ones are not repeated. A run takes 225 MB on disk, and may
be deleted when it is finished. It leaves three files in the folder of figures: its scores (.json), its
translations of the test text (.txt), and for each of these the counts that BLEU is computed from (.counts).
`--table` needs only these files. It prints, as Markdown, the mean of each variant, its difference from the
default, and a paired bootstrap test for each seed.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from transformer.kernels.allocator import keep_few_shapes

keep_few_shapes()  # before torch is imported

import torch  # noqa: E402
from measuring import machine  # noqa: E402
from silence_variants import VARIANTS, Variant  # noqa: E402

import transformer  # noqa: E402
from transformer.checkpoint.averaging import average_checkpoints  # noqa: E402
from transformer.checkpoint.reading import read_state  # noqa: E402
from transformer.checkpoint.run import Run  # noqa: E402
from transformer.config import Settings, setting_names  # noqa: E402
from transformer.config.settings import differing  # noqa: E402
from transformer.evaluation.bleu import make_bleu  # noqa: E402
from transformer.evaluation.scored import Scored  # noqa: E402
from transformer.files import write_whole  # noqa: E402
from transformer.training.distributed import ALONE  # noqa: E402
from transformer.training.finite import DivergedError  # noqa: E402

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "configs" / "multi30k_en_de.yaml"
UPDATES, TOKENS_PER_BATCH = 2000, 4096
VALIDATIONS = 4
PLACES = ("output", "data.train", "data.valid", "data.test", "build", "task")
"""Settings that may differ from those of an earlier run whose figures are reused."""


@dataclass(frozen=True)
class Folders:
    """Where a run is trained, where its figures are written, and where the text is."""

    runs: Path
    figures: Path
    data: Path


def shortened(recipe: Settings, updates: int, tokens: int) -> Settings:
    """The recipe for fewer and smaller updates, with the same learning rate at each share of the training."""
    before = recipe.training
    share = updates / before.max_steps
    warmup = max(1, round(share * before.warmup_steps))
    training = replace(
        before,
        max_steps=updates,
        warmup_steps=warmup,
        rate_scale=before.rate_scale * (warmup / before.warmup_steps) ** 0.5,
        tokens_per_batch=tokens,
        save_every=max(1, round(share * before.save_every)),
        valid_every=max(1, updates // VALIDATIONS),
        valid_sample=0,
    )
    return replace(recipe, training=training)


def settings_of(variant: Variant, seed: int, short: Settings, folders: Folders) -> Settings:
    files = {
        part: getattr(short.data, part).replace("data/", f"{folders.data}/", 1)
        for part in ("train", "valid", "test")
    }
    return replace(
        short,
        output=str(folders.runs / f"{variant.name}_{seed}"),
        seed=seed,
        model=replace(short.model, **variant.model),
        training=replace(short.training, **variant.training),
        data=replace(short.data, **files),
    )


def measure(variant: Variant, settings: Settings, folders: Folders) -> None:
    """Train one variant with one seed, and write its figures, unless they exist."""
    file = folders.figures / f"{variant.name}_{settings.seed}.json"
    values = identity(settings)
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8"))["settings"] != values:
            raise ValueError(f"{file} is from other settings; delete it, or choose another --figures")
        return
    torch.set_num_threads(1)
    started = time.perf_counter()
    figures: dict[str, Any] = {"variant": variant.name, "change": variant.change, "seed": settings.seed}
    try:
        transformer.train(
            settings,
            build=variant.build,
            task=variant.task,
            schedule=variant.schedule(settings) if variant.schedule else None,
            resume=True,
        )
        scores, scored = evaluated(variant, settings)
    except DivergedError as error:
        scores, scored = {"diverged": str(error)}, []
    figures |= scores | origin(settings) | {"seconds_in_all": round(time.perf_counter() - started)}
    write_figures(file, figures | {"settings": values}, scored)
    print(f"{file.stem}: {scores}", file=sys.stderr, flush=True)


def identity(settings: Settings) -> dict[str, Any]:
    """The settings of a run that are not the package's defaults, without the names of its files."""
    names = (name for name in setting_names() if name not in PLACES)
    return {name: value for name, _, value in differing(Settings(), settings, names)}


def evaluated(variant: Variant, settings: Settings) -> tuple[dict[str, Any], list[Scored]]:
    """The scores of the mean of the last checkpoints, and its translations of the test text."""
    run = Run(Path(settings.output))
    last = run.steps()[-1]
    averaged = average_checkpoints(run, min(settings.training.keep, len(run.steps())))
    trained = transformer.load_pretrained(averaged, build=variant.build, task=variant.task)
    validate = variant.task.validation(str(settings.data.valid), trained.tokenizer, trained.settings)
    validation = validate(trained.model, ALONE)
    values, _, scored = variant.task.score(trained, str(settings.data.test))
    scores = {
        "perplexity": validation["perplexity"],
        "bleu": values["bleu"],
        "bleu_signature": values["bleu_signature"],
        "chrf": values["chrf"],
        "chrf_signature": values["chrf_signature"],
        "updates": last,
        "averaged": ", ".join(map(str, read_state(averaged)["averaged"])),
        "seconds_of_training": round(read_state(run.checkpoint(last))["seconds"]),
    }
    return scores, list(scored)


def origin(settings: Settings) -> dict[str, str]:
    """The command, code version, machine and date of a figure."""
    variant, training = Path(settings.output).name.rpartition("_")[0], settings.training
    options = f"--updates {training.max_steps} --tokens {training.tokens_per_batch}"
    return {
        "command": f"python benchmarks/silences.py --variants {variant} --seeds {settings.seed} {options}",
        "commit": commit(),
        "hardware": machine(torch.device("cpu")),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """The commit of this program; with `-dirty` if the code has changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_figures(file: Path, figures: dict[str, Any], scored: list[Scored]) -> None:
    """Write the JSON file last, because a run whose JSON file exists is not repeated."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if scored:
        tokenizer = figures["bleu_signature"].partition("tok:")[2].partition("|")[0]
        write_whole(file.with_suffix(".txt"), "".join(f"{each.output}\n" for each in scored))
        write_whole(file.with_suffix(".counts"), "".join(f"{counts(each, tokenizer)}\n" for each in scored))
    write_whole(file, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def counts(sentence: Scored, tokenizer: str) -> str:
    """What BLEU needs of a sentence: length of output and reference, matches and n-grams of 1 to 4 words."""
    score = make_bleu(tokenizer).corpus_score([sentence.output], [[sentence.reference]])
    return " ".join(map(str, (score.sys_len, score.ref_len, *score.counts, *score.totals)))


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.list:
        for variant in VARIANTS.values():
            print(f"{variant.name:<22}{variant.change}")
        return
    if options.table:
        from silence_table import table  # needs SciPy, which training does not

        print(table(options.figures))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
    recipe = transformer.load_settings(options.config)
    short = shortened(recipe, options.updates, options.tokens)
    folders = Folders(options.output, options.figures, options.data)
    chosen = [VARIANTS[name] for name in options.variants]
    todo = [
        (variant, settings_of(variant, seed, short, folders)) for variant in chosen for seed in options.seeds
    ]
    train = partial(measure, folders=folders)
    if options.processes == 1:
        for variant, settings in todo:
            train(variant, settings)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn, max_tasks_per_child=1) as pool:
        list(pool.map(train, *zip(*todo, strict=True)))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="default: all"
    )
    made.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="the seeds of each variant")
    made.add_argument("--processes", type=int, default=1, help="runs at a time, one thread each")
    made.add_argument("--output", type=Path, default=Path("runs/silences"), help="folder of the runs")
    made.add_argument(
        "--figures", type=Path, default=ROOT / "docs/figures/silences", help="folder of the figures"
    )
    data = Path(os.environ.get("TRANSFORMER_DATA", "data"))
    made.add_argument("--data", type=Path, default=data, help="folder that contains multi30k")
    made.add_argument("--config", type=Path, default=RECIPE, help="recipe that the variants change")
    made.add_argument("--updates", type=int, default=UPDATES, help="updates of each run")
    made.add_argument("--tokens", type=int, default=TOKENS_PER_BATCH, help="most target tokens of an update")
    made.add_argument("--list", action="store_true", help="print what each variant changes")
    made.add_argument("--table", action="store_true", help="print the table of the figures")
    return made


if __name__ == "__main__":
    main()
