"""Shared code of the examples: train a model briefly on the built-in corpus and translate with it."""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

import transformer

Build = Callable[[transformer.ModelConfig], nn.Module]
SENTENCES = [
    "The old man buys a red apple.",
    "Does the girl read the book?",
    "The boy is tired because he has not slept.",
]


def updates(default: int = 300) -> int:
    """Return the number of updates given on the command line, or `default` if none is given."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def toyland_settings(
    output: str, max_steps: int, *, rate_scale: float = 0.5, valid_sample: int = 0, **model: Any
) -> transformer.Settings:
    sizes: dict[str, Any] = {"d_model": 128, "num_heads": 4, "d_ff": 512, "num_layers": 2, "dropout": 0.0}
    return transformer.Settings(
        output=output,
        model=transformer.ModelConfig(**{**sizes, **model}),
        data=transformer.DataConfig(
            train="toyland:train[:20000]",
            valid="toyland:valid[:200]",
            vocab_size=1200,
            normalization="identity",
        ),
        training=transformer.TrainingConfig(
            max_steps=max_steps,
            warmup_steps=125,
            rate_scale=rate_scale,
            cooldown=0.5,
            label_smoothing=0.0,
            tokens_per_batch=1500,
            log_every=50,
            valid_sample=valid_sample,
        ),
    )


def demonstrate(build: Build) -> transformer.Translator:
    """Train the model that `build` makes and print three translations; 300 updates take half a minute."""
    with tempfile.TemporaryDirectory() as folder:
        transformer.train(toyland_settings(folder, updates()), build=build)
        translator = transformer.Translator.from_pretrained(folder, build=build)
    print(f"{count_parameters(translator.model):,} parameters, {updates():,} updates")
    print_translations(translator)
    return translator


def compare(models: Mapping[str, tuple[Build, Mapping[str, Any]]]) -> None:
    """Train each model on the same batches, and print a table of results and some translations.

    `models` maps the name of each model to its build function and its options for `toyland_settings`. Loss
    and exact match are measured on 200 unseen sentences. Greedy search is used for exact match, and beam
    search for the translations printed at the end.
    """
    rows, translators = [], {}
    for name, (build, options) in models.items():
        with tempfile.TemporaryDirectory() as folder:
            transformer.train(toyland_settings(folder, updates(), valid_sample=200, **options), build=build)
            translators[name] = transformer.Translator.from_pretrained(folder, build=build)
            log = [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]
        valid = [entry for entry in log if entry["event"] == "valid"][-1]
        spent = [(e["tokens"], e["tokens"] / e["tokens_per_second"]) for e in log if e["event"] == "train"]
        speed = sum(tokens for tokens, _ in spent) / sum(seconds for _, seconds in spent)
        parameters = count_parameters(translators[name].model)
        rows.append(
            f"| {name} | {parameters:,} | {valid['loss']:.3f} | {valid['exact_match']:.1f} | {speed:,.0f} |"
        )
    print(f"after {updates():,} updates")
    print("| model | parameters | loss | exact match, % | target tokens/s in training |")
    print("| --- | --- | --- | --- | --- |", *rows, sep="\n")
    for name, translator in translators.items():
        print(f"\n{name}")
        print_translations(translator)


def print_translations(translator: transformer.Translator) -> None:
    for sentence, translation in zip(SENTENCES, translator.translate(SENTENCES), strict=True):
        print(f"{sentence:45} {translation}")


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
