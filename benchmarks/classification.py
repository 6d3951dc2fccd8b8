"""The accuracy of small classifiers on TREC and SST-2, from scratch and from a masked language model.

TRANSFORMER_DATA=data python benchmarks/classification.py [--set trec] [--seeds 3] [--output FOLDER]
                                                          [--start runs/english_masked] [--part valid]

Trains configs/trec.yaml or configs/sst2.yaml twice with each seed: from scratch, and from a masked language
model that is trained first on the same sentences. `--start` trains only from the masked language model of
that run, such as that of configs/english_masked.yaml, with its size and vocabulary.

Prints the test accuracies, their mean and its 95 % interval (Student's t) over the seeds. `--part valid`
prints those of the validation sentences, on which the settings were chosen. There are two baselines: the most
frequent class, and logistic regression on the counts of words and word pairs. McNemar's exact test compares
each seed with the latter. Needs the extra `benchmarks`. Existing runs are reused.
"""

import argparse
import os
import platform
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import transformer
from transformer.config import Settings
from transformer.data.sentences import Sentence, read_sentences
from transformer.decoding.predictors import Classifier

ROOT = Path(__file__).parents[1]
FINE_TUNING = {"max_steps": 400, "warmup_steps": 50, "weight_decay": 0.01}
"""Settings `training.*` with `--start`."""
RATES = {"trec": 0.0005, "sst2": 0.001}
"""`training.learning_rate` with `--start`: of 0.0002, 0.0005 and 0.001, the best on validation sentences."""


def recipe(name: str, data: Path, output: Path, seed: int) -> Settings:
    """The settings of a recipe, with its files in the folder `data` and with its own run folder."""
    settings = transformer.load_settings(ROOT / "configs" / f"{name}.yaml")
    files = {
        part: value.replace("data/", f"{data}/", 1)
        for part in ("train", "valid", "test")
        if (value := getattr(settings.data, part)) is not None
    }
    return replace(
        settings, output=str(output / f"{name}_{seed}"), seed=seed, data=replace(settings.data, **files)
    )


def train_once(settings: Settings) -> Path:
    started = time.perf_counter()
    run = transformer.train(settings, resume=True)
    print(f"  {run}: {time.perf_counter() - started:.0f} s", flush=True)
    return run


def is_right(labels: list[str | None], sentences: list[Sentence]) -> NDArray[np.bool_]:
    return np.array([label == each.label for label, each in zip(labels, sentences, strict=True)])


def answers_of_run(run: Path, test: list[Sentence]) -> NDArray[np.bool_]:
    labels = Classifier.from_pretrained(run).classify([sentence.text for sentence in test])
    return is_right([label.name if label else None for label in labels], test)


def mcnemar(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """p of McNemar's exact test, from the sentences that only one of two classifiers gets right."""
    mine, other = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    return float(stats.binomtest(mine, mine + other).pvalue) if mine + other else 1.0


def with_interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f} %"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.1f} ± {half:.1f} %  ({', '.join(f'{value:.1f}' for value in values)})"


def print_baselines(train: list[Sentence], test: list[Sentence]) -> NDArray[np.bool_]:
    """Print the baselines' accuracies; returns which sentences logistic regression gets right."""
    most_frequent = Counter(sentence.label for sentence in train).most_common(1)[0][0]
    share = is_right([most_frequent] * len(test), test).mean()
    print(f"{'always ' + str(most_frequent):<34}{100 * share:.1f} %")
    # Every token counts, "?" and "'s" too; scikit-learn's own pattern drops tokens of one letter.
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    model = make_pipeline(words, LogisticRegression(max_iter=1000))
    model.fit([sentence.text for sentence in train], [sentence.label for sentence in train])
    answers = is_right(list(model.predict([sentence.text for sentence in test])), test)
    print(f"{'logistic regression':<34}{100 * answers.mean():.1f} %", flush=True)
    return answers


def started_from(settings: Settings, run: Path, rate: float) -> Settings:
    """The recipe for a classifier that starts from another run's encoder, and has its size and vocabulary."""
    before = transformer.load_settings(run / "config.yaml")
    vocabulary = {"vocab_size": before.data.vocab_size, "normalization": before.data.normalization}
    return replace(
        settings,
        output=f"{settings.output}_from_{run.name}",
        model=before.model,
        data=replace(settings.data, **vocabulary),
        training=replace(settings.training, start_from=str(run), learning_rate=rate, **FINE_TUNING),
    )


def measure(name: str, data: Path, output: Path, options: argparse.Namespace) -> None:
    settings = recipe(name, data, output, 1)
    train_name, label_format = settings.data.train, settings.data.label_format
    if options.part == "test":
        train_name = train_name.partition("[")[0]  # the baselines need no validation part
    train = read_sentences(train_name, label_format)
    test = read_sentences(str(getattr(settings.data, options.part)), label_format)
    print(f"{name}: {len(train):,} sentences to train on, {len(test):,} to test on")
    baseline = print_baselines(train, test)
    recipes = [recipe(name, data, output, seed) for seed in range(1, options.seeds + 1)]
    if options.start:
        started = [started_from(anew, options.start, RATES[name]) for anew in recipes]
        print_transformer(f"from {options.start.name}", started, test, baseline)
        return
    start = train_once(recipe(f"{name}_masked", data, output, 1))
    started = [
        replace(
            anew,
            output=f"{anew.output}_started",
            training=replace(anew.training, start_from=str(start)),
        )
        for anew in recipes
    ]
    print_transformer("from scratch", recipes, test, baseline)
    print_transformer("from a masked LM", started, test, baseline)


def print_transformer(
    how: str, recipes: list[Settings], test: list[Sentence], baseline: NDArray[np.bool_]
) -> None:
    """Train each of the recipes, which differ in their seeds, and print their accuracies."""
    answers = [answers_of_run(train_once(settings), test) for settings in recipes]
    found = [100 * float(each.mean()) for each in answers]
    print(f"{'Transformer ' + how:<34}{with_interval(found)}")
    p = ", ".join(f"{mcnemar(each, baseline):.2g}" for each in answers)
    print(f"{'  against logistic regression':<34}p = {p} (McNemar's exact test)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=("trec", "sst2"), action="append", help="default: both")
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each kind")
    parser.add_argument("--start", type=Path, help="run of a masked language model to start from")
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="sentences to classify")
    parser.add_argument("--output", default="runs/classification", help="folder of the runs")
    options = parser.parse_args()
    data = Path(os.environ.get("TRANSFORMER_DATA", "data"))
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}"
    )
    for name in options.set or ("trec", "sst2"):
        measure(name, data, Path(options.output), options)


if __name__ == "__main__":
    main()
