"""benchmarks/multi30k.py: the methods are what their papers say, and the comparison is sacreBLEU's test."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import BOS, EOS, random_rows, tiny_model
from numpy.typing import NDArray
from test_objectives import make_batch
from torch import nn

import transformer
from transformer.checkpoint.format import MODEL
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.data.batches import Batch
from transformer.data.flat import Lists
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.tasks.translation import TranslationLoss

ROOT = Path(__file__).parents[1]
LINES = ["the old man sleeps in the old house", "a dog and a man are in the snow", "two dogs sleep"]


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(ROOT / "examples")


@pytest.fixture
def methods() -> Any:
    return import_module("multi30k_methods")


@pytest.fixture
def batch() -> Batch:
    sources = [[*row, EOS] for row in random_rows(3, 7, 4, 1)]
    targets = [[*row, EOS] for row in random_rows(4, 8, 2, 5, first=BOS)]
    return make_batch(list(zip(sources, targets, strict=True)))


class Drawn(nn.Module):
    """Its logits are other random numbers in each row, as with dropout, and the same in each call."""

    def forward(self, _: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        return torch.randn(*targets.shape, 13)


# Losses


def test_r_drop_is_that_of_the_example(methods: Any, batch: Batch) -> None:
    example = import_module("r_drop").RDropLoss(0.1)
    ours = methods.MethodsLoss(label_smoothing=0.1, alpha=example.alpha)
    assert ours(Drawn(), batch).total.item() == pytest.approx(example(Drawn(), batch).total.item(), rel=1e-5)
    assert ours(Drawn(), batch).tokens == batch.target_tokens


def test_two_equal_passes_have_no_divergence(methods: Any, batch: Batch) -> None:
    model = tiny_model().eval()
    for alpha in (0.0, 5.0):
        loss = methods.MethodsLoss(label_smoothing=0.1, alpha=alpha)(model, batch).total
        assert loss.item() == pytest.approx(TranslationLoss(0.1)(model, batch).total.item(), rel=1e-5)


def test_distillation_is_that_of_the_example(methods: Any, batch: Batch) -> None:
    model, teacher = tiny_model().eval(), tiny_model(d_ff=24).eval()
    example = import_module("distillation").DistillationLoss(label_smoothing=0.1, teacher=teacher)
    ours = methods.MethodsLoss(label_smoothing=0.1, teacher=teacher)
    assert ours(model, batch).total.item() == pytest.approx(example(model, batch).total.item(), rel=1e-5)


# BPE-dropout


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_other_splits_of_the_same_text(
    methods: Any, monkeypatch: pytest.MonkeyPatch, probability: float
) -> None:
    tokenizer = train_tokenizer(LINES * 20, vocab_size=300, normalization="identity")
    monkeypatch.setattr(methods, "BPE_DROPOUT", probability)
    encoded = [[*row, EOS] for row in tokenizer.encode(LINES)]
    lengths = np.array([len(row) for row in encoded], dtype=np.int32)
    holder = SimpleNamespace(processor=tokenizer.processor)
    drawn = methods.DropoutBatches.split_anew(holder, Lists(np.concatenate(encoded), lengths))
    assert tokenizer.decode(drawn) == LINES
    assert all(row[-1] == EOS for row in drawn)
    assert (drawn == encoded) == (probability == 0)
    if probability == 1:
        assert all(len(tokenizer.pieces[number]) == 1 for row in drawn for number in row[:-1])


# The moving average


def test_the_moving_average_of_plain_adam(methods: Any) -> None:
    torch.manual_seed(1)
    weights = [nn.Parameter(torch.randn(3, 2, dtype=torch.float64)), nn.Parameter(torch.randn(2))]
    copies = [nn.Parameter(each.detach().clone()) for each in weights]
    settings = transformer.Settings()
    ours = methods.averaging_adam(settings)([("", each) for each in weights])
    training = settings.training
    betas = training.adam_beta1, training.adam_beta2
    adam = torch.optim.AdamW(copies, lr=1.0, betas=betas, eps=training.adam_epsilon, weight_decay=0.0)
    averages = [each.detach().clone() for each in weights]
    for step in range(1, 30):
        for pair in zip(weights, copies, strict=True):
            gradient = torch.randn_like(pair[0])
            for each in pair:
                each.grad = gradient.clone()
        for optimizer in (ours, adam):
            optimizer.param_groups[0]["lr"] = 0.1
            optimizer.step()
        kept = min(0.999, step / (step + 9))
        averages = [
            kept * old + (1 - kept) * new.detach() for old, new in zip(averages, weights, strict=True)
        ]
    for weight, copy, average in zip(weights, copies, averages, strict=True):
        torch.testing.assert_close(weight, copy)
        if average.dtype == torch.float64:
            torch.testing.assert_close(ours.state[weight]["average"], average)


def test_all_methods_train_resume_and_score(methods: Any, tmp_path: Path) -> None:
    program = import_module("multi30k")
    settings = transformer.load_settings(ROOT / "configs/toyland.yaml")
    settings = replace(
        settings,
        output=str(tmp_path / "run"),
        model=replace(settings.model, d_model=16, d_ff=24, num_heads=2, num_layers=1),
        data=replace(
            settings.data, train="toyland:train[:60]", valid="toyland:valid[:5]", vocab_size=350
        ),
        training=replace(
            settings.training, max_steps=4, warmup_steps=2, tokens_per_batch=300, save_every=2,
            valid_every=4, valid_sample=0,
        ),
    )  # fmt: skip
    teacher = replace(settings, output=str(tmp_path / "teacher"))
    program.train(teacher, methods.task_with([], []))
    task = methods.task_with(["r_drop", "bpe_dropout", "distillation"], [teacher.output])
    program.train(replace(settings, training=replace(settings.training, max_steps=2)), task)
    run = program.train(settings, task)
    assert run.steps()[-1] == settings.training.max_steps
    average = methods.write_average(run)
    assert transformer.load_pretrained(average, task=task).settings.model.d_model == settings.model.d_model
    newest = read_tensors(run.checkpoint(4) / MODEL)
    assert any(not torch.equal(newest[name], each) for name, each in read_tensors(average / MODEL).items())
    plain = transformer.train(replace(settings, output=str(tmp_path / "plain")))
    with pytest.raises(ValueError, match="does not hold the average of each weight"):
        methods.write_average(Run(plain))
    with pytest.raises(ValueError, match="distillation needs --teachers"):
        methods.task_with(["distillation"], [])


# Comparison


def drawn_counts(seeds: int, sentences: int, *, skill: float) -> NDArray[np.int64]:
    generator = np.random.default_rng(seeds)
    words = generator.integers(8, 15, (seeds, sentences, 1))
    totals = words - np.arange(4)
    matches = generator.binomial(totals, skill ** np.arange(1, 5))
    return np.concatenate([words, words, matches, totals], axis=2)


def test_the_paired_test_of_one_seed_is_that_of_the_silences() -> None:
    program, table = import_module("multi30k"), import_module("silence_table")
    one, other = drawn_counts(1, 60, skill=0.8), drawn_counts(2, 60, skill=0.75)
    assert program.paired_bootstrap(one, other[:1]) == table.paired_bootstrap(one[0], other[0])
    assert program.paired_bootstrap(one, one) == 1
    assert program.paired_bootstrap(np.repeat(one, 3, axis=0), one) == 1
    strong, weak = drawn_counts(3, 60, skill=0.9), drawn_counts(4, 60, skill=0.6)
    assert program.paired_bootstrap(strong, weak) < 0.01


def test_a_comparison_of_figures(tmp_path: Path) -> None:
    program = import_module("multi30k")
    for name, skill, seeds in (("tiny.mean.8", 0.7, 2), ("r_drop.mean.8", 0.8, 3)):
        for seed, rows in enumerate(drawn_counts(seeds, 40, skill=skill)):
            np.savetxt(tmp_path / f"{name}.val.{seed}.counts", rows, fmt="%d")
    printed = program.compare(tmp_path, "val", ["tiny.mean.8", "r_drop.mean.8"])
    assert "mean of 2 seeds" in printed
    assert "mean of 3 seeds" in printed
    assert "difference +" in printed
    with pytest.raises(ValueError, match="has no figures of r_drop"):
        program.compare(tmp_path, "test", ["r_drop.mean.8", "r_drop.mean.8"])
