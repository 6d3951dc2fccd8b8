"""How often the nearest caption is the right translation, among 1,000 and 5,000 distractors.

TRANSFORMER_DATA=data python benchmarks/retrieval.py [--seeds 1] [--output runs/retrieval]

Trains configs/multi30k_embeddings.yaml with its Transformer and, in the same way, with a mean of word
embeddings in its place. Prints P@1 of the right caption of test_2016_flickr in the other language among all
1,000 of the test and 5,000 of the training text, in both directions. A run
that is there already is not trained again.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import transformer
from transformer.config import ModelConfig
from transformer.data.text import read_lines
from transformer.decoding.sentences import Embedder
from transformer.evaluation.validation import precision_at_1

ROOT = Path(__file__).parents[1]
DISTRACTORS = 5000


class BagOfWords(nn.Module):
    """An encoder whose hidden states are the tokens' embeddings, with nothing of where they stand."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.pad_id = config.pad_id
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.embedding(tokens))


class Entry(NamedTuple):
    """A model and its rate, each at the best of those that were tried on the validation text."""

    build: Callable[[ModelConfig], nn.Module]
    rate_scale: float


MODELS = {"transformer": Entry(transformer.build_model, 2.0), "word_embeddings": Entry(BagOfWords, 3.0)}


def captions(data: Path, language: str) -> tuple[list[str], list[str]]:
    """The test captions, and the distractors: training captions, evenly spread."""
    train = list(read_lines(data / "multi30k" / f"train.{language}"))
    distractors = [train[number * len(train) // DISTRACTORS] for number in range(DISTRACTORS)]
    return list(read_lines(data / "multi30k" / f"test_2016_flickr.{language}")), distractors


def precision(embedder: Embedder, data: Path, source: str, target: str) -> tuple[float, float]:
    """P@1 among the 1,000, and among them and the distractors."""
    queries, _ = captions(data, source)
    candidates, distractors = captions(data, target)
    vectors, right, others = (
        torch.from_numpy(embedder.embed(part)) for part in (queries, candidates, distractors)
    )
    return precision_at_1(vectors, right), precision_at_1(vectors, torch.cat([right, others]))


def measure(name: str, data: Path, output: Path, seed: int) -> None:
    build, rate_scale = MODELS[name]
    settings = transformer.load_settings(ROOT / "configs" / "multi30k_embeddings.yaml")
    files = {"train": f"{data}/multi30k/train", "valid": f"{data}/multi30k/val"}
    settings = replace(
        settings,
        output=str(output / f"{name}_{seed}"),
        seed=seed,
        data=replace(settings.data, **files),
        training=replace(settings.training, rate_scale=rate_scale),
    )
    started = time.perf_counter()
    run = transformer.train(settings, build=build, resume=True)
    seconds = time.perf_counter() - started
    embedder = Embedder.from_pretrained(run, build=build)
    parameters = sum(parameter.numel() for parameter in embedder.model.parameters())
    row = f"{name:<18}{seed:>5}{parameters:>13,}{seconds:>8.0f}"
    for source, target in (("en", "de"), ("de", "en")):
        alone, distracted = precision(embedder, data, source, target)
        row += f"{alone:>12.1f} %{distracted:>12.1f} %"
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each model")
    parser.add_argument("--output", default="runs/retrieval", help="folder of the runs")
    options = parser.parse_args()
    data = Path(os.environ.get("TRANSFORMER_DATA", "data"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':<44}{'en -> de':>14}{'+ 5,000':>14}{'de -> en':>14}{'+ 5,000':>14}")
    print(f"{'model':<18}{'seed':>5}{'parameters':>13}{'seconds':>8}" + f"{'1,000':>14}{'6,000':>14}" * 2)
    for seed in range(1, options.seeds + 1):
        for name in MODELS:
            measure(name, data, Path(options.output), seed)


if __name__ == "__main__":
    main()
