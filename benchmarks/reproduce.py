"""Trains and scores one figure of docs/reproducing.md again, and compares it with what is written there.

python benchmarks/reproduce.py                                list the figures
python benchmarks/reproduce.py tinyshakespeare [--output runs/reproduce]

`TRANSFORMER_DATA` names the folder with the texts, by default `data`. The program prints each command, the
figure that is written, the figure found, and whether the two agree: whether the new figure is within the
spread of one more run. The exit code is 0 if they agree, 1 if not, and 2 if nothing could be compared. The
first seed of the document is trained; with other hardware, versions or numbers of threads, rounding makes it
another run. A training that was interrupted continues, and one that is finished is not repeated: delete its
folder first.
"""

import argparse
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from transformer.config.files import load_settings

ROOT = Path(__file__).parents[1]
STUDENT = {2: 12.706, 3: 4.303}
"""The 97.5 % quantile of Student's t, by the number of runs."""
ONE_RUN = "one more run is within this of the mean of those above, 19 times in 20 (Student's t)"


def from_json(key: str) -> Callable[[str], float]:
    """A function that reads a score from the output of `transformer evaluate --json`."""
    return lambda output: float(json.loads(output)[key])


def both_directions(output: str) -> float:
    """P@1 among 30,000 captions, the mean of both directions, from the Transformer's line of retrieval.py."""
    line = re.search(r"^transformer .*", output, re.MULTILINE)
    if line is None:
        raise ValueError("retrieval.py has printed no line of the Transformer")
    shares = list(map(float, re.findall(r"([\d.]+) %", line.group())))  # 3 of each direction
    return (shares[2] + shares[5]) / 2


def accuracy_of_classifier(output: str) -> float:
    """The accuracy of the first seed, from the Transformer's line of classification.py."""
    line = re.search(r"^Transformer from \S+ +([\d.]+)", output, re.MULTILINE)
    if line is None:
        raise ValueError("classification.py has printed no line of the Transformer")
    return float(line[1])


@dataclass(frozen=True)
class Figure:
    """One figure of docs/reproducing.md, and how to find it again."""

    row: str
    """The beginning of its row in the document's first table."""
    unit: str
    commands: tuple[str, ...]
    """The last one prints the figure. `{runs}` is the folder of runs, `{printed}` what the previous one
    printed."""
    read: Callable[[str], float]
    written: tuple[float, ...]
    """The figures in the document, one for each seed."""
    shown: str
    """The figure as the row shows it."""
    minutes: float
    """About how long it takes on two idle cores."""
    needs: tuple[str, ...] = ()
    """Files that must exist in the folder with the texts."""
    given_tolerance: float = math.nan
    """The allowed distance from the documented figure, if there are too few runs to calculate it."""
    why: str = ONE_RUN

    @property
    def tolerance(self) -> float:
        if not math.isnan(self.given_tolerance):
            return self.given_tolerance
        runs = len(self.written)
        return STUDENT[runs] * stdev(self.written) * math.sqrt(1 + 1 / runs)

    def agrees(self, found: float) -> bool:
        return abs(found - mean(self.written)) <= self.tolerance


def trained(recipe: str, *options: str, last: int = 0, name: str | None = None) -> tuple[str, ...]:
    """The commands that train a recipe, average its last checkpoints if `last` says so, and score it."""
    run = f"{{runs}}/{name or recipe}"
    score = f"transformer evaluate --json --run {'{printed}' if last else run}"
    return (
        " ".join(["transformer train --resume --config", recipe, "--output", run, *options]),
        *([f"transformer average --run {run} --last {last}"] if last else []),
        score,
    )


def classifier_from_other_text(name: str) -> tuple[str, ...]:
    """The commands that train a masked language model, and a classifier that starts from it."""
    score = f"python benchmarks/classification.py --set {name} --seeds 1 --start {{runs}}/english_masked"
    return trained("english_masked")[0], f"{score} --output {{runs}}/classification"


MULTI30K, MULTI30K_FRENCH = (
    tuple(
        f"multi30k/{part}.{language}"
        for part in ("train", "val", "test_2016_flickr")
        for language in ("en", other)
    )
    for other in ("de", "fr")
)
LIKE_TINY = (
    "only one seed was trained; two runs of Transformer-Tiny, a model of the same size, are within this of "
    "each other, 19 times in 20 (Student's t over its three seeds)"
)
TATOEBA = tuple(
    f"tatoeba_en_de/{part}.{language}" for part in ("train", "valid", "test") for language in ("en", "de")
)
TATOEBA_FRENCH = tuple(
    f"tatoeba_en_fr/{part}.{language}" for part in ("train", "valid", "test") for language in ("en", "fr")
)
TREC = "trec/train.txt", "trec/test.txt"
SST2 = tuple(f"sst2/{part}.tsv" for part in ("train", "dev", "test"))
FIGURES = {
    "toyland": Figure(
        "[toyland](#toyland)", "% exact match", trained("toyland"), from_json("exact_match"),
        (98.0, 99.3, 98.3), "98.0, 99.3, 98.3 %", 5,
    ),
    "multi30k": Figure(
        "[Multi30k](#multi30k-english-german)", "BLEU", trained("multi30k_en_de", last=8), from_json("bleu"),
        (38.8,), "38.8", 29, MULTI30K, 1.0,
        LIKE_TINY,
    ),
    "multi30k_from_german": Figure(
        "[Multi30k, German-English]", "BLEU",
        trained("multi30k_en_de", "--data.source de --data.target en", last=8, name="multi30k_de_en"),
        from_json("bleu"), (40.1,), "40.1", 29, MULTI30K, 1.0, LIKE_TINY,
    ),
    "multi30k_french": Figure(
        "[Multi30k, English-French]", "BLEU",
        trained("multi30k_en_de", "--data.target fr", last=8, name="multi30k_en_fr"),
        from_json("bleu"), (57.5,), "57.5", 29, MULTI30K_FRENCH, 1.0, LIKE_TINY,
    ),
    "multi30k_tiny": Figure(
        "[Multi30k, Transformer-Tiny]", "BLEU of lower-cased tokens", trained("multi30k_tiny", last=10),
        from_json("tokenized_bleu"), (40.89, 41.23, 41.04), "41.05", 90, MULTI30K,
    ),
    "tatoeba": Figure(
        "[Tatoeba](#tatoeba-english-german)", "BLEU", trained("tatoeba_en_de"), from_json("bleu"), (43.2,),
        "43.2", 92, TATOEBA, 1.6, "only one seed was trained; sacreBLEU's 95 % interval of this score",
    ),
    "tatoeba_french": Figure(
        "[Tatoeba](#tatoeba-english-french)", "BLEU", trained("tatoeba_en_fr"), from_json("bleu"), (47.0,),
        "47.0", 60, TATOEBA_FRENCH, 1.6, "only one seed was trained; sacreBLEU's 95 % interval of this score",
    ),
    "tinyshakespeare": Figure(
        "[Tiny Shakespeare]", "nats per character", trained("shakespeare_char"), from_json("loss"),
        (1.677, 1.680, 1.685), "1.677, 1.680, 1.685", 1, ("tinyshakespeare/input.txt",),
    ),
    "trec": Figure(
        "[TREC]", "% accuracy, from a masked language model",
        (
            trained("trec_masked")[0],
            *trained("trec", "--training.start_from {runs}/trec_masked", name="trec_started"),
        ),
        from_json("accuracy"), (83.8, 83.6, 86.4), "84.6 %", 3, TREC,
    ),
    "trec_english": Figure(
        "[TREC, from other text]", "% accuracy",
        classifier_from_other_text("trec"), accuracy_of_classifier,
        (92.2, 91.2, 92.2), "91.9 %", 57, (*TREC, "english.txt"),
    ),
    "sst2_english": Figure(
        "[SST-2, from other text]", "% accuracy",
        classifier_from_other_text("sst2"), accuracy_of_classifier,
        (79.6, 80.3, 78.4), "79.4 %", 57, (*SST2, "english.txt"),
    ),
    "trec_from_scratch": Figure(
        "[TREC]", "% accuracy, from scratch", trained("trec"), from_json("accuracy"), (81.6, 81.6, 81.6),
        "81.6 %", 1, TREC, 3.2,
        "the three equal figures are a coincidence; two models disagree on 13 % of the 500 questions, and if "
        "chance decides which one is right, the standard deviation of their difference is 1.6",
    ),
    "sst2": Figure(
        "[SST-2]", "% accuracy", trained("sst2"), from_json("accuracy"), (78.7, 81.1, 79.2), "79.7 %", 1,
        SST2,
    ),
    "retrieval": Figure(
        "[Multi30k, retrieval]", "% P@1 among 30,000 captions",
        ("python benchmarks/retrieval.py --seeds 1 --output {runs}/retrieval",), both_directions,
        (95.8, 95.2, 94.55), "95.2 %", 8, MULTI30K,
    ),
    "parsing": Figure(
        "[toyland, parsing]", "labelled bracket F1",
        (
            trained("toyland_parsing")[0],
            "transformer evaluate --json --run {runs}/toyland_parsing --data toyland:test[:300]",
        ),
        from_json("bracket_f1"), (99.8,), "99.8", 6, given_tolerance=0.4,
        why="only one seed was trained; this is twice what its 9 wrong parses among 300 cost",
    ),
}  # fmt: skip
"""By name, every figure in the first table of docs/reproducing.md."""


def folder_of_texts() -> str:
    return os.environ.get("TRANSFORMER_DATA", "data")


def options_for_texts(recipe: str) -> list[str]:
    """Options with which a recipe reads its texts from another folder than `data`."""
    data = load_settings(ROOT / f"configs/{recipe}.yaml").data
    names = {part: getattr(data, part) for part in ("train", "valid", "test")}
    return [
        f"--data.{part}={folder_of_texts()}/{name.removeprefix('data/')}"
        for part, name in names.items()
        if name is not None and name.startswith("data/")
    ]


def run(command: str) -> str:
    """Run a command, which may write to the screen; returns what it prints. Its failure ends this program."""
    print(f"$ {command}", file=sys.stderr, flush=True)
    program, *arguments = shlex.split(command)
    if program == "transformer":
        texts = options_for_texts(arguments[arguments.index("--config") + 1]) if "train" in arguments else []
        arguments = ["-m", "transformer", *arguments, *texts]
    else:
        arguments[0] = str(ROOT / arguments[0])
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"failed with exit code {done.returncode}: {command}")
    return done.stdout


def reproduce(figure: Figure, runs: Path) -> float:
    """Train and score; returns the figure found."""
    printed = ""
    for command in figure.commands:
        names = {"runs": shlex.quote(str(runs)), "printed": shlex.quote(printed.strip())}
        printed = run(command.format(**names))
    return figure.read(printed)


def listing() -> str:
    lines = [f"{'name':<19}{'minutes':>7}  {'written':<30}figure"]
    for name, figure in FIGURES.items():
        values = ", ".join(f"{value:g}" for value in figure.written)
        lines.append(f"{name:<19}{figure.minutes:>7g}  {values:<22}±{figure.tolerance:>5.2g}  {figure.unit}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", choices=FIGURES, metavar="NAME", help="default: list the names")
    parser.add_argument("--output", type=Path, default=Path("runs/reproduce"), help="folder of the runs")
    options = parser.parse_args(arguments)
    if options.name is None:
        print(listing())
        return 0
    figure = FIGURES[options.name]
    folder = Path(folder_of_texts())
    if missing := [name for name in figure.needs if not (folder / name).exists()]:
        parser.error(f"{options.name} needs {', '.join(missing)} in {folder} (TRANSFORMER_DATA)")
    try:
        found = reproduce(figure, options.output)
    except (ValueError, LookupError) as error:
        print(f"nothing to compare: {error}", file=sys.stderr)
        return 2
    agrees = figure.agrees(found)
    values = ", ".join(f"{value:g}" for value in figure.written)
    print(f"expected  {mean(figure.written):.4g} ± {figure.tolerance:.2g} {figure.unit} (written: {values})")
    print(f"          {figure.why}")
    print(f"found     {found:.4g}")
    print("within the spread between seeds" if agrees else "OUTSIDE the spread between seeds")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
