"""Retrieval: how often the nearest of 1,000, 6,000 or 30,000 captions is the right translation.

TRANSFORMER_DATA=data python benchmarks/retrieval.py [--part test] [--seeds 3] [--output runs/retrieval]

Trains configs/multi30k_embeddings.yaml with its Transformer. For comparison, trains models that only average
embeddings: of whole words; of the subwords that the Transformer reads; and of these subwords with the loss
that works best for an average. Each caption of test_2016_flickr is searched for in the other language: among
the 1,000 captions of the test, then with 5,000 captions of the training text as distractors, then with all
29,000. Prints P@1, the share of captions that are found. Then, for both directions together, prints means and
95 % intervals (Student's t over the seeds), the number of queries that only one of the two models gets right,
and the p-value of a paired permutation test. `--part valid` measures on the validation text, on which the
settings were chosen; `--part test_2017` measures on test_2017_flickr. `--start RUN` adds an encoder that
starts from a masked language model, such as that of configs/english_masked.yaml, and compares this one with
the others, or with those of `--models`. Existing runs are reused. Needs the extra `benchmarks`.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

import transformer
from transformer.config import ModelConfig, Settings
from transformer.data.text import read_lines
from transformer.decoding.predictors import Embedder
from transformer.tasks.sentence_embedding import is_nearest

ROOT = Path(__file__).parents[1]
PARTS = {"valid": "val", "test": "test_2016_flickr", "test_2017": "test_2017_flickr"}
DISTRACTORS = (0, 5_000, 29_000)


class BagOfWords(nn.Module):
    """An encoder whose hidden states are the token embeddings, without positions or attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.pad_id = config.pad_id
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.embedding(tokens))


class Entry(NamedTuple):
    """A model, and the settings that were tuned for it on the validation text."""

    build: Callable[[ModelConfig], nn.Module]
    training: dict[str, Any] = {}  # noqa: RUF012
    data: dict[str, Any] = {}  # noqa: RUF012


MODELS = {
    "transformer": Entry(transformer.build_model),
    # with 40,000 entries, 98 % of the training text's words are one piece; a larger vocabulary changes
    # nothing
    "words": Entry(BagOfWords, {"rate_scale": 12.0}, {"vocab_size": 40_000}),
    "pieces": Entry(BagOfWords),
    "pieces_tuned": Entry(BagOfWords, {"label_smoothing": 0.0, "temperature": 0.1}),
    "started": Entry(transformer.build_model),
}
FINE_TUNING = {"warmup_steps": 100, "learning_rate": 0.002}
"""Settings `training.*` with `--start`. On the validation text, 400 updates at 0.0005 were worse."""


def answered(embedder: Embedder, data: Path, part: str, source: str, target: str) -> NDArray[np.bool_]:
    """Whether the nearest caption is the right one, for each number of distractors: (distractors, queries).

    Distractors are training captions, evenly spread.
    """
    queries, right, train = (
        torch.from_numpy(embedder.embed(list(read_lines(data / "multi30k" / name))))
        for name in (f"{PARTS[part]}.{source}", f"{PARTS[part]}.{target}", f"train.{target}")
    )
    spreads = [torch.arange(count) * len(train) // max(1, count) for count in DISTRACTORS]
    found = [is_nearest(queries, torch.cat([right, train[spread]])) for spread in spreads]
    return torch.stack(found).numpy()


def started_from(settings: Settings, run: Path) -> Settings:
    """The settings of an encoder that starts from another run's, and has its size and vocabulary."""
    before = transformer.load_settings(run / "config.yaml")
    vocabulary = {"vocab_size": before.data.vocab_size, "normalization": before.data.normalization}
    training = replace(settings.training, start_from=str(run), **FINE_TUNING)
    return replace(settings, model=before.model, data=replace(settings.data, **vocabulary), training=training)


def measure(name: str, options: argparse.Namespace, data: Path, seed: int) -> NDArray[np.bool_]:
    """The answers of one model (directions, distractors, queries); trains it if its run does not exist."""
    part, output = options.part, Path(options.output)
    build, training, changes = MODELS[name]
    settings = transformer.load_settings(ROOT / "configs" / "multi30k_embeddings.yaml")
    files = {"train": f"{data}/multi30k/train", "valid": f"{data}/multi30k/val"}
    settings = replace(
        settings,
        output=str(output / f"{name}_{seed}"),
        seed=seed,
        data=replace(settings.data, **files, **changes),
        training=replace(settings.training, **training),
    )
    if name == "started":
        settings = started_from(settings, options.start)
    started = time.perf_counter()
    run = transformer.train(settings, build=build, resume=True)
    seconds = time.perf_counter() - started
    embedder = Embedder.from_pretrained(run, build=build)
    parameters = sum(parameter.numel() for parameter in embedder.model.parameters())
    both = np.stack([answered(embedder, data, part, *way) for way in (("en", "de"), ("de", "en"))])
    figures = "".join(f"{100 * share:>8.1f} %" for share in both.mean(axis=2).flatten())
    print(f"{name:<26}{seed:>5}{parameters:>13,}{seconds:>9.0f}{figures}", flush=True)
    return both


def report(first: str, name: str, ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> None:
    """Compare the answers (seeds, directions, distractors, queries) of `first` with those of `name`."""
    print(f"\nboth directions: {first}, {name}, difference, queries that only one answers")
    for number, count in enumerate(DISTRACTORS):
        mine, other = ours[:, :, number], theirs[:, :, number]
        values = [100 * side.mean(axis=(1, 2)) for side in (mine, other)]
        columns = "".join(f"{with_interval(value):>18}" for value in (*values, values[0] - values[1]))
        only = [int(np.sum(mine & ~other)), int(np.sum(other & ~mine))]
        # permute whole captions, because the answers of all seeds and directions for a caption are related
        lead = (mine.astype(int) - other).sum(axis=(0, 1))
        chance = stats.permutation_test((lead,), np.mean, permutation_type="samples", rng=1).pvalue
        print(f"{count:>6,} distractors{columns}{only[0]:>8} : {only[1]} (permutation: p = {chance:.2g})")


def with_interval(values: NDArray[np.float64]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{values.mean():.2f} ± {half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, default="test", help="captions to retrieve")
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each model")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=[name for name in MODELS if name != "started"],
        metavar="MODEL",
        help="default: transformer words pieces pieces_tuned",
    )
    parser.add_argument("--start", type=Path, help="run of a masked language model to start from")
    parser.add_argument("--output", default="runs/retrieval", help="folder of the runs")
    options = parser.parse_args()
    data = Path(os.environ.get("TRANSFORMER_DATA", "data"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'distractors':<53}{'en -> de':>30}{'de -> en':>30}")
    columns = "".join(f"{count:>10,}" for count in DISTRACTORS) * 2
    print(f"{'model':<26}{'seed':>5}{'parameters':>13}{'seconds':>9}{columns}")
    names = options.models or [name for name in MODELS if name != "started"]
    if options.start:
        names = ["started", *names]
    results: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in names}
    for seed in range(1, options.seeds + 1):
        for name, seeds in results.items():
            seeds.append(measure(name, options, data, seed))
    ours, *others = ((name, np.stack(seeds)) for name, seeds in results.items())
    for name, theirs in others:
        report(ours[0], name, ours[1], theirs)


if __name__ == "__main__":
    main()
