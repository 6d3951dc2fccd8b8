"""Optimizers and schedules: those of the settings and custom ones, which all resume exactly."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from fixtures_run import events, tiny_settings
from torch import nn

from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.reading import read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import TrainingConfig
from transformer.recipe import train
from transformer.training.log import Event
from transformer.training.optimizer import OPTIMIZERS, make_optimizers
from transformer.training.parallel import PARALLEL
from transformer.training.schedule import SCHEDULES, inverse_sqrt_rate, learning_rate
from transformer.training.update_rule import UpdateRule


def adamw_groups(named: list[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """No weight decay for biases and norms, a tenth of the rate for embeddings."""
    embeddings = [p for name, p in named if "embedding" in name]
    vectors = [p for name, p in named if p.ndim == 1]
    matrices = [p for name, p in named if p.ndim > 1 and "embedding" not in name]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": embeddings, "lr": 1e-4},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3)


def muon_and_adamw(named: list[tuple[str, nn.Parameter]]) -> list[torch.optim.Optimizer]:
    hidden = [p for name, p in named if "blocks" in name and p.ndim == 2]
    others = [p for name, p in named if not ("blocks" in name and p.ndim == 2)]
    return [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(others, lr=3e-3)]


class Counting(torch.optim.SGD):
    """Keeps numbers of its own, as schedule-free optimizers do: one per group and one per parameter."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.05)
        for group in self.param_groups:
            group["steps"] = 0
            group["lowest"] = 0.0

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["steps"] += 1
            group["lowest"] = math.inf  # until it is known
            for parameter in group["params"]:
                state = self.state[parameter]
                state["scale"] = state.get("scale", 1.0) * 0.9
                if parameter.grad is not None:
                    parameter.grad.mul_(state["scale"] / group["steps"])
        return super().step(closure)


class Own(torch.optim.SGD):
    """Has Adam's names for other tensors: a whole number, and one mean per row of a matrix."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    state["step"] = state.get("step", torch.zeros(1, dtype=torch.int64)) + 1
                    rows = parameter.grad.reshape(len(parameter), -1).mean(dim=1)
                    state["exp_avg"] = 0.9 * state.get("exp_avg", 0.0) + rows
        return super().step(closure)


CUSTOM: dict[str, Callable[..., Any]] = {
    "sgd": lambda named: torch.optim.SGD(named, lr=0.1),
    "momentum": lambda named: torch.optim.SGD(named, lr=0.1, momentum=0.9),
    "unfused adam": lambda named: torch.optim.Adam(named, lr=1e-3, foreach=False),
    "adamw groups": adamw_groups,
    "muon": muon_and_adamw,
    "adafactor": lambda named: torch.optim.Adafactor([p for _, p in named], lr=1e-2),
    "numbers": lambda named: Counting([p for _, p in named]),
    "names of adam": lambda named: Own(named, lr=0.1),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_every_optimizer_resumes_exactly(name: str, tmp_path: Path) -> None:
    def short(output: str, steps: int) -> Path:
        settings = tiny_settings(tmp_path / output, data={"valid": None}, max_steps=steps, save_every=3)
        return train(settings, optimizer=CUSTOM[name], resume=True)

    whole = Run(short("whole", 6)).checkpoint(6)
    short("parts", 3)
    parts = Run(short("parts", 6)).checkpoint(6)
    for file in (MODEL, OPTIMIZER):
        ours, theirs = read_tensors(parts / file), read_tensors(whole / file)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert read_state(parts)["optimizer"] == read_state(whole)["optimizer"]


def small_model() -> nn.Module:
    return nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(4, 3)), "embedding": nn.Embedding(3, 4)})


@pytest.mark.parametrize("name", CUSTOM)
def test_an_update_that_is_not_finite_changes_nothing(name: str) -> None:
    model = small_model()
    rule = UpdateRule(model, make_optimizers(model, TrainingConfig(), CUSTOM[name]), lambda _: 0.1)
    rule.set_rate(1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for finite in (0.0, 1.0):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1.0 if finite else math.nan)
        rule.step(torch.tensor(finite))
        assert all(parameter.grad is None for parameter in model.parameters())
        same = [torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
        assert same == [not finite] * len(before)


def test_parameter_groups_keep_their_ratio_to_the_first_optimizers_rate() -> None:
    model = small_model()
    for make, ratios in ((adamw_groups, [1, 0.1, 1]), (muon_and_adamw, [1, 0.15])):
        rule = UpdateRule(model, make_optimizers(model, TrainingConfig(), make), lambda step: 7.0 / step)
        for step in (1, 2):
            assert rule.set_rate(step) == 7 / step
            assert [group["lr"] for group in rule.groups()] == pytest.approx([r * 7 / step for r in ratios])


def test_a_custom_optimizers_rate_is_the_peak_unless_settings_or_a_schedule_say_otherwise(
    tmp_path: Path,
) -> None:
    def rates(name: str, schedule: Any = None, **training: Any) -> list[float]:
        training = {"max_steps": 4, "warmup_steps": 2, **training}
        run = train(
            tiny_settings(tmp_path / name, data={"valid": None}, **training),
            optimizer=CUSTOM["sgd"],
            schedule=schedule,
        )
        return [entry["rate"] for entry in events(run, "train")]

    own = [0.05, 0.1, 0.1 * (2 / 3) ** 0.5, 0.1 * 0.5**0.5]
    assert rates("own") == pytest.approx(own)
    assert rates("set", learning_rate=0.5) == pytest.approx([5 * rate for rate in own])
    assert rates("schedule", lambda step: step / 100) == [0.01, 0.02, 0.03, 0.04]


def test_a_run_is_resumed_with_the_optimizer_that_it_has_used(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run", data={"valid": None}, max_steps=2)
    train(settings, optimizer=muon_and_adamw)
    longer = replace(settings, training=replace(settings.training, max_steps=4))
    with pytest.raises(CheckpointError, match="trained with Muon and AdamW, not AdamW; resume with the same"):
        train(longer, resume=True)


def test_one_group_of_parameters_does_not_continue_what_three_have_begun(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run", data={"valid": None}, max_steps=2)
    train(settings, optimizer=adamw_groups)
    with pytest.raises(CheckpointError, match="trained with 3 groups of parameters, not 1; resume with the"):
        train(replace(settings, training=replace(settings.training, max_steps=4)), resume=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, r"must return a torch\.optim\.Optimizer, or a list"),
        (lambda _: [], r"must return a torch\.optim\.Optimizer, or a list"),
        (lambda named: torch.optim.SGD(named, lr=0.0), "the optimizer's lr is 0; it must be greater than 0"),
    ],
)
def test_what_is_no_optimizer_is_refused(make: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        train(tiny_settings(tmp_path / "run", data={"valid": None}), optimizer=make)


# The settings


@pytest.mark.parametrize(
    ("name", "table"), [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("parallel", PARALLEL)]
)
def test_the_words_of_a_setting_are_those_of_its_table(name: str, table: dict[str, Any]) -> None:
    assert tuple(table) == get_args(get_type_hints(TrainingConfig)[name])


def test_muon_trains_the_matrices_of_the_layers_and_adam_the_rest(tmp_path: Path) -> None:
    run = Run(train(tiny_settings(tmp_path / "run", data={"valid": None}, optimizer="muon", max_steps=2)))
    state = read_tensors(run.checkpoint(2) / OPTIMIZER)
    by_muon = {name.rpartition(".")[0] for name in state if name.endswith(".momentum_buffer")}
    by_adam = {name.rpartition(".")[0] for name in state if name.endswith(".exp_avg")}
    assert by_muon
    assert all(".blocks." in name and state[f"{name}.momentum_buffer"].ndim == 2 for name in by_muon)
    assert by_muon | by_adam == read_tensors(run.checkpoint(2) / MODEL).keys()
    assert not by_muon & by_adam


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_rises_by_equal_steps_to_the_learning_rate_and_never_rises_again(name: Any) -> None:
    settings = TrainingConfig(schedule=name, learning_rate=0.01, warmup_steps=10, max_steps=100)
    rates = [learning_rate(step, 64, settings) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.001 * step for step in range(1, 11)])
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(rates[9:]))
    half = (rates[54] + rates[55]) / 2  # half of the 91 updates from the peak to 0
    halfway = {"inverse_sqrt": 0.01 * (10 / 55.5) ** 0.5, "constant": 0.01}
    assert half == pytest.approx(halfway.get(name, 0.005), rel=1e-3)
    assert rates[-1] > 0
    without = replace(settings, learning_rate=None)
    assert learning_rate(10, 64, without) == pytest.approx(inverse_sqrt_rate(10, 64, 10))


# The log


def test_events_and_custom_figures(tmp_path: Path) -> None:
    found: list[Event] = []

    def norms(model: Any) -> dict[str, torch.Tensor]:
        return {"norm/encoder": model.encoder.blocks[0].feed_forward.w_1.weight.grad.norm()}

    settings = tiny_settings(tmp_path / "run", max_steps=4, valid_every=2, log_every=2)
    run = train(settings, on_event=found.append, figures=norms)
    names = [event.name for event in found]
    assert names.count("save") == 2  # when a checkpoint is written, which a thread does
    assert [name for name in names if name != "save"] == ["data", "train", "valid", "train", "valid"]
    assert found[0].figures["optimizer"] == "AdamW"
    for event in found:
        [entry] = [e for e in events(run, event.name) if e["step"] == event.step]
        assert entry.keys() - {"event", "step", "time"} == event.figures.keys()
    logged = [event.figures for event in found if event.name == "train"]
    assert all(0 < figures["norm/encoder"] <= figures["gradient_norm"] for figures in logged)
