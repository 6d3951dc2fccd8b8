"""The examples that change the training: their losses are their formulas, and they train and resume."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures_run import events, tiny_settings
from helpers import assert_close, random_rows, right_padded, tiny_model
from test_examples import ROOT, example, run_example

from transformer.data.batches import Batch
from transformer.recipe import train
from transformer.tasks.translation import TranslationLoss
from transformer.trained import evaluate

__all__ = ["example"]


@pytest.fixture
def batch() -> Batch:
    src_tokens = right_padded(random_rows(5, 3))
    tgt_tokens = right_padded(random_rows(4, 6, first=1))
    return Batch(src_tokens, tgt_tokens, np.arange(2), int((tgt_tokens[:, 1:] != 0).sum()))


def log_probs(model: Any, batch: Batch) -> torch.Tensor:
    logits: torch.Tensor = model(batch.src_tokens, batch.tgt_tokens[:, :-1])
    return logits.detach().double().log_softmax(dim=-1)


def test_r_drop_without_dropout_is_the_cross_entropy(example: Any, batch: Batch) -> None:
    model = tiny_model()
    assert_close(example("r_drop").RDropLoss(0.1)(model, batch), TranslationLoss(0.1)(model, batch))


def test_r_drop_is_its_formula(example: Any, batch: Batch) -> None:
    """Two dropout masks are imitated by a model that computes the second half of a batch differently."""
    first, second = tiny_model(), tiny_model()

    def both(src_tokens: torch.Tensor, tgt_tokens: torch.Tensor) -> torch.Tensor:
        halves = zip(src_tokens.chunk(2), tgt_tokens.chunk(2), strict=True)
        return torch.cat([model(*half) for model, half in zip((first, second), halves, strict=True)])

    loss = example("r_drop").RDropLoss(0.0, alpha=3.0)(both, batch)
    p, q = log_probs(first, batch), log_probs(second, batch)
    expected = 0.0
    for row, position in (batch.tgt_tokens[:, 1:] != 0).nonzero().tolist():
        one, other, label = p[row, position], q[row, position], batch.tgt_tokens[row, position + 1]
        divergence = (one.exp() * (one - other)).sum() + (other.exp() * (other - one)).sum()
        expected += float(-(one[label] + other[label]) / 2 + 3.0 / 4 * divergence)
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    assert loss.tokens == batch.target_tokens


def test_distillation_is_its_formula(example: Any, batch: Batch) -> None:
    student, teacher = tiny_model(), tiny_model()
    make = example("distillation").DistillationLoss
    assert_close(
        make(label_smoothing=0.1, teacher=teacher, weight=0.0)(student, batch),
        TranslationLoss(0.1)(student, batch),
    )
    loss = make(label_smoothing=0.0, teacher=teacher, weight=1.0)(student, batch)
    p, q = log_probs(student, batch), log_probs(teacher, batch)
    is_real = batch.tgt_tokens[:, 1:] != 0
    assert float(loss.total.detach()) == pytest.approx(float(-(q.exp() * p)[is_real].sum()), rel=1e-5)
    own = make(label_smoothing=0.0, teacher=student, weight=1.0)(student, batch)
    gradients = torch.autograd.grad(own.total, list(student.parameters()))
    assert all(float(gradient.abs().max()) < 1e-5 for gradient in gradients)  # it is its own best teacher


def tasks(example: Any, tmp_path: Path) -> dict[str, Callable[[], Any]]:
    def distillation() -> Any:
        return example("distillation").distilled_from(train(tiny_settings(tmp_path / "teacher")))

    return {"r_drop": lambda: example("r_drop").RDropTask, "distillation": distillation}


@pytest.mark.parametrize("name", ["r_drop", "distillation"])
def test_it_trains_and_resumes_exactly(name: str, example: Any, tmp_path: Path) -> None:
    task = tasks(example, tmp_path)[name]()
    whole = tiny_settings(tmp_path / "whole")
    train(whole, task=task)
    parts = replace(whole, output=str(tmp_path / "parts"))
    train(replace(parts, training=replace(parts.training, max_steps=4)), task=task)
    train(parts, task=task, resume=True)
    ours, theirs = (events(tmp_path / folder, "train")[-1]["loss"] for folder in ("parts", "whole"))
    assert ours == theirs
    assert evaluate(tmp_path / "whole", task=task)["sentences"] == 12


def test_monitoring_sends_figures_to_the_services(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, list[tuple[int, dict[str, float]]]] = {"wandb": [], "mlflow": []}

    def receiver(name: str) -> Callable[..., None]:
        return lambda values, step: sent[name].append((step, values))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(log=receiver("wandb")))
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(log_metrics=receiver("mlflow")))
    monitoring = example("monitoring")
    settings = tiny_settings(tmp_path / "run", max_steps=2, valid_every=2)

    def to_both(event: Any) -> None:
        monitoring.to_wandb(event)
        monitoring.to_mlflow(event)

    folder = train(settings, on_event=to_both, figures=monitoring.gradient_norms)
    assert sent["wandb"] == sent["mlflow"]
    assert [step for step, _ in sent["wandb"]] == [1, 2, 2]
    losses = [entry["loss"] for entry in events(folder, "train")]
    assert [values["train/loss"] for _, values in sent["wandb"][:2]] == losses
    assert "valid/bleu" in sent["wandb"][2][1]
    names = {name for name in sent["wandb"][0][1] if name.startswith("train/norm/")}
    assert names == {"train/norm/encoder.blocks.0", "train/norm/decoder.blocks.0"}
    for entry in events(folder, "train"):
        squares = sum(value**2 for name, value in entry.items() if name.startswith("norm/"))
        assert 0 < squares**0.5 < entry["gradient_norm"]  # the embedding is in no layer


@pytest.mark.parametrize("name", ["r_drop", "distillation", "monitoring"])
def test_the_program_runs(name: str, tmp_path: Path) -> None:
    printed = run_example(ROOT / f"examples/{name}.py", 2, tmp_path)
    assert ("% exactly right" if name != "monitoring" else "'event': 'valid'") in printed
