"""A task is one page and one entry in the registry: this file adds a task, and the package trains it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures_run import TINY_MODEL, events, tiny_settings
from numpy.typing import NDArray
from torch import Tensor, nn

from transformer.__main__ import main
from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.pretrained import load_run
from transformer.checkpoint.run import Run
from transformer.cli.results import results
from transformer.config import Settings
from transformer.data.epochs import EpochBatches, TensorBatch
from transformer.data.running_text import BlockBatches, TextBatch, read_text, token_ids
from transformer.data.tokenizers.protocol import PAD_ID, Tokenizer
from transformer.data.tokenizers.training import make_tokenizer
from transformer.decoding.generator import TextGenerator
from transformer.decoding.translator import Translator
from transformer.evaluation.card import model_card
from transformer.evaluation.validation import mean_loss
from transformer.recipe import train
from transformer.tasks.registry import TASKS, TaskEntry, Use, tasks_of_kind
from transformer.tasks.task import Evaluate, Task, TokenizedText, task_class
from transformer.trained import evaluate, load_pretrained
from transformer.training.distributed import Group
from transformer.training.objectives import Loss, Objective

TEXT = "a dog sees a cat, and the cat sees a dog.\n" * 20


class Skipper(TextGenerator):
    """Loads the models of the new task."""

    @classmethod
    def from_pretrained(cls, path: str | Path, **how: Any) -> "Skipper":
        return cls(*load_run(path, task="skipping", **how)[:2])


def skipping_loss(model: nn.Module, batch: TextBatch) -> Loss:
    """An objective can be a plain function; this one predicts the token after the next one."""
    logits, labels = model(batch.tokens[:, :-2]), batch.tokens[:, 2:]
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD_ID, reduction="sum")
    return Loss(total, batch.target_tokens)


class SkippingTask(Task):
    """A language model that predicts the token after the next one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.text = read_text(settings.data.train)

    def train_tokenizer(self) -> Tokenizer:
        return make_tokenizer(self.settings.data, [self.text])

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        return TokenizedText(
            self.batches(self.text, tokenizer, settings), {"characters": len(self.text)}, "text"
        )

    @staticmethod
    def objective(settings: Settings) -> Objective:  # noqa: ARG004
        return skipping_loss

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> Evaluate:
        batches = cls.batches(read_text(name), tokenizer, settings)
        return lambda model, group: {"loss": mean_loss(model, batches, skipping_loss, group)[0]}

    @staticmethod
    def batches(text: str, tokenizer: Tokenizer, settings: Settings) -> BlockBatches:
        return BlockBatches(
            token_ids(text, tokenizer), context=16, tokens_per_batch=64, seed=settings.seed, shuffle=True
        )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of the new task, which is added to the registry for the duration of a test."""
    monkeypatch.setitem(TASKS, "skipping", TaskEntry("decoder_only", f"{__name__}:SkippingTask", ("loss",)))
    (tmp_path / "text").write_text(TEXT)
    data = {"train": str(tmp_path / "text"), "valid": str(tmp_path / "text"), "tokenizer": "characters"}
    made = tiny_settings(tmp_path / "run", data=data, max_steps=2, valid_every=1)
    return replace(made, task="skipping", model=replace(TINY_MODEL, kind="decoder_only"))  # type: ignore[arg-type]


def test_a_new_task_is_trained_and_validated(settings: Settings) -> None:
    run = train(settings)
    assert events(run, "data")[0]["characters"] == len(TEXT)
    assert [entry["step"] for entry in events(run, "train")] == [1, 2]
    first, second = (entry["loss"] for entry in events(run, "valid"))
    assert second < first
    assert Run(run).marked("best") == Run(run).checkpoint(2)


def test_a_registered_task_is_resumed_and_evaluated(settings: Settings) -> None:
    train(replace(settings, training=replace(settings.training, max_steps=1)))
    run = train(settings, resume=True)
    last = events(run, "valid")[-1]["loss"]
    assert evaluate(run, data=settings.data.valid) == {"loss": pytest.approx(last)}


def test_a_new_task_has_a_card_and_can_be_inspected_if_the_registry_says_how(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(settings)
    show = ["inspect", "--run", str(run), "a dog sees", "--output", str(run / "page.html")]
    assert "transformer evaluate --run OWNER/NAME\n" in model_card(run)
    assert not any(line.startswith("use it:") for line in results(run))
    assert main(show) == 2
    assert "was trained for skipping; models of this task cannot be inspected" in capsys.readouterr().err

    loader = f"{__name__}:Skipper"
    use = Use(loader, "skip {run}", hub_tag="skipping", inspection_options=("max_length",))
    monkeypatch.setitem(TASKS, "skipping", TASKS["skipping"]._replace(use=use))
    card = model_card(run)
    assert "pipeline_tag: skipping" in card
    assert "transformer skip --run OWNER/NAME < lines.txt\n" in card
    assert f"use it:    transformer skip --run {run}" in results(run)
    assert main([*show, "--max-length", "2"]) == 0
    assert (run / "page.html").exists()
    assert main([*show, "--beam-size", "2"]) == 2
    assert "the run's task is skipping, which has no --beam-size" in capsys.readouterr().err


def test_the_settings_know_a_new_task(settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"training.best_metric .*perplexity.*loss"):
        replace(settings, training=replace(settings.training, best_metric="perplexity"))
    with pytest.raises(ValueError, match=r"task skipping is for model\.kind decoder_only"):
        replace(settings, model=replace(settings.model, kind="encoder_only"))


@dataclass(frozen=True)
class Ramp:
    """The loss multiplied by the number of the update."""

    weight: float = 0.0

    def at(self, step: int) -> Objective:
        return replace(self, weight=float(step))

    def __call__(self, model: nn.Module, batch: TextBatch) -> Loss:
        loss = skipping_loss(model, batch)
        return loss._replace(total=self.weight * loss.total)


def test_an_objective_is_told_the_number_of_the_update(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_losses(objective: Objective, name: str) -> list[float]:
        monkeypatch.setattr(SkippingTask, "objective", staticmethod(lambda _: objective))
        # a learning rate too small to change anything, so that the losses differ only by the weight
        training = replace(settings.training, rate_scale=1e-30)
        run = train(replace(settings, output=f"{settings.output}-{name}", training=training))
        return [entry["loss"] for entry in events(run, "train")]

    plain, ramp = first_losses(skipping_loss, "plain"), first_losses(Ramp(), "ramp")
    assert ramp == pytest.approx([plain[0], 2 * plain[1]], rel=1e-6)


# A task that is only given as a class


class LengthRegressor(nn.Module):
    """A custom head: one number per sentence."""

    def __init__(self, encoder: nn.Module, d_model: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(d_model, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.encoder(tokens).mean(dim=1))[:, 0]


@dataclass(frozen=True)
class Lengths(TensorBatch):
    """A custom batch."""

    tokens: Tensor
    target_tokens: int


class NumberBatches(EpochBatches[Lengths]):
    """A custom dataset, without a text: rows of 3 to 8 random tokens, all of a batch equally long."""

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        lengths = np.random.default_rng(number).integers(3, 9, 4)
        return [np.array([length, number]) for length in lengths]

    def fetch(self, rows: NDArray[np.int64]) -> Lengths:
        generator = np.random.default_rng(rows)
        return Lengths(torch.from_numpy(generator.integers(4, 10, (5, rows[0]))), 5)

    def sizes(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        return (5 * int(rows[0]),)

    def content(self) -> Iterator[NDArray[Any]]:
        yield from self.epoch(0)


def length_loss(model: nn.Module, batch: Lengths) -> Loss:
    return Loss((model(batch.tokens) - batch.tokens.shape[1]).square().sum(), batch.target_tokens)


class LengthTask(Task):
    """Predicting how long a sentence is, with its own head, batches, loss and metric, but no tokenizer."""

    kind = "encoder_only"
    metrics = ("loss", "error", "score")
    lower_is_better = Task.lower_is_better | {"error"}

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def train_tokenizer(self) -> Tokenizer:
        return make_tokenizer(self.settings.data, ["abcdef"])

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:  # noqa: ARG002
        return TokenizedText(NumberBatches(), {}, "numbers")

    @staticmethod
    def objective(settings: Settings) -> Objective:  # noqa: ARG004
        return length_loss

    @staticmethod
    def head(model: nn.Module, settings: Settings) -> nn.Module:
        return LengthRegressor(model, settings.model.d_model)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> Evaluate:  # noqa: ARG003
        def measure(model: nn.Module, group: Group) -> dict[str, float]:
            loss, _ = mean_loss(model, NumberBatches(), length_loss, group)
            return {"loss": loss, "error": loss**0.5, "score": -loss}

        return measure


def test_a_task_given_as_a_class_is_trained_resumed_loaded_and_evaluated(tmp_path: Path) -> None:
    def short(output: str, steps: int) -> Path:
        data = {"tokenizer": "characters", "valid": "unused"}
        made = tiny_settings(tmp_path / output, data=data, max_steps=steps, best_metric="loss")
        model: Any = replace(TINY_MODEL, kind="encoder_only")
        return train(replace(made, model=model), task=LengthTask, resume=True)

    whole = short("whole", 6)
    short("parts", 3)
    parts = short("parts", 6)
    name = f"{__name__}:LengthTask"
    assert [event["task"] for event in events(parts, "data")] == [name, name]
    assert events(parts, "train")[-1]["loss"] == events(whole, "train")[-1]["loss"]
    last = events(whole, "valid")[-1]
    assert evaluate(whole, task=LengthTask, data="unused") == {
        name: pytest.approx(last[name]) for name in LengthTask.metrics
    }
    loaded = load_pretrained(whole, task=LengthTask)
    assert isinstance(loaded.model, LengthRegressor)
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    for function in (load_pretrained, evaluate):
        with pytest.raises(ValueError, match=f"the task is {name}; pass --task {name}, or `task` in Python"):
            function(whole)
    with pytest.raises(CheckpointError, match=f"trained for {name}; translation is needed here"):
        Translator.from_pretrained(whole)


def test_a_task_of_the_package_given_as_a_class_is_recorded_by_its_name(tmp_path: Path) -> None:
    run = train(tiny_settings(tmp_path / "run", max_steps=1, valid_every=5), task=task_class("translation"))
    assert load_pretrained(run).settings.task == "translation"


@pytest.mark.parametrize("metric", ["error", "score"])
def test_a_task_says_which_metrics_should_fall(metric: str, tmp_path: Path) -> None:
    data = {"tokenizer": "characters", "valid": "unused"}
    made = tiny_settings(tmp_path / "run", data=data, max_steps=3, valid_every=1, keep=9)
    training = replace(made.training, best_metric=metric)
    ours: Any = {"model": replace(TINY_MODEL, kind="encoder_only"), "task": f"{__name__}:LengthTask"}
    run = train(replace(made, **ours, training=training), task=LengthTask)
    losses = {entry["step"]: entry["loss"] for entry in events(run, "valid")}
    assert len(set(losses.values())) == 3
    assert Run(run).marked("best") == Run(run).checkpoint(min(losses, key=lambda step: losses[step]))


# The registry


@pytest.mark.parametrize("name", TASKS)
def test_every_entry_names_a_task(name: str) -> None:
    task = task_class(name)
    assert issubclass(task, Task)
    assert not task.__abstractmethods__
    assert name in tasks_of_kind(TASKS[name].kind)


METRICS = {
    "translation": {"train": "toyland:train[:60]", "valid": "toyland:valid[:8]"},
    "language_model": {"tokenizer": "characters"},
    "masked_language_model": {"vocab_size": 280},
    "classification": {"tokenizer": "characters", "label_format": "tab"},
    "sentence_embedding": {"train": "toyland:train[:60]", "valid": "toyland:valid[:8]"},
}


@pytest.mark.parametrize("name", TASKS)
def test_validation_and_evaluation_give_the_metrics_of_the_registry(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{line}\t{'yes' if line.count('a') % 2 else 'no'}" for line in TEXT.splitlines()]
    rows[0] = "the dog\tyes"
    (tmp_path / "text").write_text("\n".join(rows) + "\n" if name == "classification" else TEXT)
    text = {"train": str(tmp_path / "text"), "valid": str(tmp_path / "text"), "test": None}
    made = tiny_settings(tmp_path / "run", data=text | METRICS[name], max_steps=1)
    model: Any = replace(TINY_MODEL, kind=TASKS[name].kind)
    settings = replace(made, task=name, model=model)  # type: ignore[arg-type]
    run = train(settings)
    [found] = events(run, "valid")
    assert set(TASKS[name].metrics) == found.keys() - {"event", "step", "time", "samples"}
    options = ["--run", str(run), "--data", settings.data.valid or "", "--device", "cpu", "--json"]
    assert main(["evaluate", *options]) == 0
    scores = json.loads(capsys.readouterr().out)
    shared = set(TASKS[name].metrics) & scores.keys()
    assert shared
    if name != "translation":  # whose validation translates only a sample, greedily
        assert shared == set(TASKS[name].metrics)
        assert [scores[key] for key in shared] == pytest.approx([found[key] for key in shared], rel=1e-5)
