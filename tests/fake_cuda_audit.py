"""Runs whole updates and searches on a fake CUDA device, and prints as JSON what each of them did there.

`test_fake_cuda.py` starts it in a separate process, because the device cannot be removed again, and because
it is faster without the run-time shape checks.
"""

import itertools
import json
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from fake_cuda import Record, run_on_both  # isort: skip  (before torch)

import numpy as np
import torch
from helpers import random_rows, right_padded
from torch import nn

from transformer.config import DataConfig, ModelConfig, Settings, TrainingConfig
from transformer.data.batches import Batch
from transformer.data.masking import MaskedBatch
from transformer.data.running_text import TextBatch
from transformer.data.sentences import LabelledBatch
from transformer.decoding.beam import beam_search
from transformer.decoding.processors import ForcedPrefix, MinLength, NoRepeat
from transformer.decoding.sampling import Sampler
from transformer.decoding.search import Processor, generate, greedy_search
from transformer.hardware import loss_scaler
from transformer.model.build import build_model
from transformer.tasks.task import task_class
from transformer.training.distributed import ALONE
from transformer.training.loop import fit
from transformer.training.state import TrainingState
from transformer.training.update_rule import make_update_rule

VOCABULARY = 37
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 32, "num_heads": 4, "d_ff": 64}
torch.manual_seed(0)
LONG = 8
ROWS = random_rows(LONG, 5, 2, first=1, vocab_size=VOCABULARY)
SOURCES = random_rows(6, 4, 4, vocab_size=VOCABULARY)
"""Two batches with padding; made here, because fake tensors have no values."""


# Training


def batch_of(task: str, device: torch.device) -> Any:
    rows, sources = right_padded(ROWS).to(device), right_padded(SOURCES).to(device)
    match task:
        case "translation" | "sentence_embedding":
            return Batch(sources, rows, np.arange(3), 18)
        case "language_model":
            return TextBatch(rows, 18)
        case "masked_language_model":
            return MaskedBatch(rows, torch.arange(21, device=device), rows.flatten()[:21])
        case "classification":
            return LabelledBatch(rows, torch.arange(3, device=device), 3)
    raise AssertionError(task)


@dataclass
class Ready:
    """Batches already on the device: `fit` would move them in another thread, where tensors are not fake."""

    batch: Any
    target_tokens: int = 0

    def to(self, _: object) -> Any:
        return self.batch

    def take(self, count: int) -> list[None]:
        return [None] * count

    def fetch(self, _: object) -> "Ready":
        return self

    def state_dict(self) -> dict[str, int]:
        return {}

    planning_ahead = nullcontext


def training(task: str, updates: int, precision: Any, layers: int, **options: Any) -> Any:
    """The loop itself, with one log entry at the end."""
    settings = Settings(
        task=task,  # type: ignore[arg-type]
        model=ModelConfig(**SIZES, **TASKS[task], num_layers=layers),
        training=TrainingConfig(max_steps=updates, log_every=1000, max_skipped=2, **options),
        data=DataConfig(classes="a,b,c"),
    )

    def program(device: torch.device) -> Callable[[], object]:
        model = task_class(task).head(build_model(settings.model), settings)
        batches: Any = Ready(batch_of(task, device))
        rule, scaler = make_update_rule(model, settings), loss_scaler(device, precision)
        state = TrainingState(model, rule, batches, scaler=scaler)
        saver = SimpleNamespace(
            group=ALONE,
            log=skip,
            save=skip,
            writing=nullcontext,
            wants_one=lambda _: False,
            is_due=lambda _: False,
        )
        return lambda: fit(
            state,
            settings,
            objective=task_class(task).objective(settings),
            evaluate=None,
            precision=precision,
            saver=saver,  # type: ignore[arg-type]
        )

    return program


def saving(_: torch.device) -> Callable[[], object]:
    model = build_model(ModelConfig(**SIZES, num_layers=1))
    return TrainingState(model, make_update_rule(model, Settings()), Ready(None)).snapshot  # type: ignore[arg-type]


def skip(*_: object, **__: object) -> None:
    """A log that discards all entries."""


TASKS: dict[str, dict[str, Any]] = {
    "translation": {},
    "language_model": {"kind": "decoder_only", "norm": "pre", "positions": "learned"},
    "masked_language_model": {"kind": "encoder_only", "attention_dropout": 0.1},
    "classification": {"kind": "encoder_only", "norm": "pre"},
    "sentence_embedding": {"kind": "encoder_only"},
}
UPDATES = 4
"""So many that the guard reads some of its decisions between two log entries."""
PRECISIONS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "translation": (("bfloat16", {}), ("float32", {"max_norm": 1.0}), ("float16", {})),
}


# Decoding


def model_and_rows(kind: str, device: torch.device, layers: int) -> Any:
    """A model in bfloat16, as in decoding on a GPU, and its input."""
    model = build_model(ModelConfig(kind=kind, **SIZES, num_layers=layers)).eval()  # type: ignore[arg-type]
    cast = {weight: nn.Parameter(weight.detach().bfloat16(), False) for weight in model.parameters()}
    for module in model.modules():  # `model.to` cannot do it with fake tensors
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, cast[weight])
    return model, right_padded(SOURCES).to(device)


def searching(
    kind: str, how: str, length: int, make_processors: Callable[[], Any] = list, layers: int = 1
) -> Any:
    def program(device: torch.device) -> Callable[[], object]:
        model, rows = model_and_rows(kind, device, layers)
        options: dict[str, Any] = {"max_length": length, "processors": make_processors()}
        match how:
            case "greedy":
                return lambda: greedy_search(model, rows, **options)
            case "beam":
                return lambda: beam_search(model, rows, beam_size=4, alpha=0.6, n_best=2, **options)
        return lambda: generate(model, rows, choose=Sampler(top_k=9, top_p=0.9), **options)

    return program


def prefilling(kind: str, steps: int, select: Any = None, layers: int = 1) -> Any:
    """Read the prompts or sources, select rows, and read some more tokens."""

    def program(device: torch.device) -> Callable[[], object]:
        model, rows = model_and_rows(kind, device, layers)
        chosen = None if select is None else torch.tensor(select, device=device)
        tokens = torch.full((3 if select is None else len(select),), 5, device=device)

        def run() -> None:
            with torch.no_grad():
                _, state = model.prefill(rows, max_length=LONG)
                state = state if chosen is None else state.select(chosen)
                for _ in range(steps):
                    model.step(tokens, state)

        return run

    return program


KINDS = ("encoder_decoder", "decoder_only")
SEARCHES = ("greedy", "beam", "sampling")


def keep_open() -> list[Processor]:
    """Forbids EOS, so that all rows take part in each step."""
    return [MinLength(LONG, 2)]


def all_processors() -> list[Processor]:
    return [ForcedPrefix([[7, 8], [7], []], then=[MinLength(3, 2), NoRepeat(2)])]


def cases() -> dict[str, Callable[[], Record]]:
    """The programs that the test examines, by name. Operators are counted in models of two layers."""
    found: dict[str, Callable[[], Record]] = {}
    for task in TASKS:
        for precision, options in PRECISIONS.get(task, (("bfloat16", {}),)):
            program = training(task, UPDATES, precision, 1, **options)
            found[f"updates: {task}, {precision}"] = partial(run_on_both, program)
    for task in ("translation", "language_model"):
        found[f"one update: {task}"] = partial(
            difference, lambda count, task=task: training(task, count, "bfloat16", 2), 2
        )
    found["saving"] = partial(run_on_both, saving)
    for kind, how in (*itertools.product(KINDS[:1], SEARCHES), (KINDS[1], "beam")):
        found[f"{how}: {kind}"] = partial(run_on_both, searching(kind, how, LONG))
    for kind, how in (*itertools.product(KINDS[:1], SEARCHES), (KINDS[1], "greedy")):
        found[f"one step: {how}, {kind}"] = partial(
            difference, lambda n, kind=kind, how=how: searching(kind, how, n, keep_open, 2), LONG - 2
        )
    found["beam: all processors"] = partial(run_on_both, searching(KINDS[0], "beam", LONG, all_processors))
    for kind in KINDS:
        found[f"prefill: {kind}"] = partial(run_on_both, prefilling(kind, 0, layers=2))
        found[f"select: {kind}"] = partial(run_on_both, prefilling(kind, 1, [1, 1, 0, 0, 2, 2]))
    return found


def difference(program: Callable[[int], Any], count: int) -> Record:
    """The additional work when `count` is increased by one."""
    return run_on_both(program(count + 1)) - run_on_both(program(count))


def main() -> None:
    wanted = sys.argv[1:]
    for name, run in cases().items():
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            found = vars(run())
        except Exception:
            found = {"error": traceback.format_exc(limit=-6)}
        print(json.dumps({"name": name, **found}), flush=True)


if __name__ == "__main__":
    main()
