"""Runs whole updates and searches on a fake CUDA device; prints what each did there as JSON.

For `test_fake_cuda.py`, which starts it in a process of its own: the device stays, and the shapes that the
tests check at run time are not checked, which is faster.
"""

import itertools
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
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
from transformer.model.build import build_model
from transformer.tasks.task import task_class
from transformer.training.distributed import ALONE
from transformer.training.loop import fit
from transformer.training.state import TrainingState
from transformer.training.update_rule import make_update_rule

VOCABULARY = 37
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "d_model": 32, "num_heads": 4, "d_ff": 64, "num_layers": 2}
LONG = 12
ROWS = random_rows(LONG, 7, 2, first=1, vocab_size=VOCABULARY)
SOURCES = random_rows(7, 5, 5, vocab_size=VOCABULARY)
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
            return MaskedBatch(rows, rows, 21)
        case "classification":
            return LabelledBatch(rows, torch.arange(3, device=device), 3)
    raise AssertionError(task)


@dataclass
class Ready:
    """Batches that are on the device already: `fit` moves them in another thread, where tensors are real."""

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


def training(task: str, updates: int, precision: Any, model: dict[str, Any], **options: Any) -> Any:
    """The loop itself, with one log entry at the end."""
    settings = Settings(
        task=task,  # type: ignore[arg-type]
        model=ModelConfig(**SIZES, **model),
        training=TrainingConfig(max_steps=updates, log_every=1000, **options),
        data=DataConfig(classes="a,b,c"),
    )

    def program(device: torch.device) -> Callable[[], object]:
        model = task_class(task).head(build_model(settings.model), settings)
        rule = make_update_rule(model, settings)
        state = TrainingState(model, rule, Ready(batch_of(task, device)))  # type: ignore[arg-type]
        saver = SimpleNamespace(
            group=ALONE, log=skip, save=skip, wants_one=lambda _: False, is_due=lambda _: False
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


def skip(*_: object, **__: object) -> None:
    """A log that keeps nothing."""


TASKS: dict[str, dict[str, Any]] = {
    "translation": {},
    "language_model": {"kind": "decoder_only", "norm": "pre", "positions": "learned"},
    "masked_language_model": {"kind": "encoder_only", "attention_dropout": 0.1},
    "classification": {"kind": "encoder_only", "norm": "pre"},
    "sentence_embedding": {"kind": "encoder_only"},
}
UPDATES = 8
"""More than a guard keeps unread."""


# Decoding


def model_and_rows(kind: str, device: torch.device) -> Any:
    """A model in bfloat16, as a GPU decodes with it, and what it reads."""
    model = build_model(ModelConfig(kind=kind, **SIZES)).eval()  # type: ignore[arg-type]
    cast = {weight: nn.Parameter(weight.detach().bfloat16(), False) for weight in model.parameters()}
    for module in model.modules():  # `model.to` cannot do it with fake tensors
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, cast[weight])
    return model, right_padded(SOURCES).to(device)


def searching(kind: str, how: str, length: int, make_processors: Callable[[], Any] = list) -> Any:
    def program(device: torch.device) -> Callable[[], object]:
        model, rows = model_and_rows(kind, device)
        options: dict[str, Any] = {"max_length": length, "processors": make_processors()}
        match how:
            case "greedy":
                return lambda: greedy_search(model, rows, **options)
            case "beam":
                return lambda: beam_search(model, rows, beam_size=4, alpha=0.6, n_best=2, **options)
        return lambda: generate(model, rows, choose=Sampler(top_k=9, top_p=0.9), **options)

    return program


def prefilling(kind: str, steps: int, select: Any = None) -> Any:
    """Read the prompts or sources, select rows, and read some more tokens."""

    def program(device: torch.device) -> Callable[[], object]:
        model, rows = model_and_rows(kind, device)
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


def keep_open() -> list[Processor]:
    """So that all rows take part in each step."""
    return [MinLength(LONG, 2)]


def all_processors() -> list[Processor]:
    return [ForcedPrefix([[7, 8], [7], []], then=[MinLength(3, 2), NoRepeat(2)])]


def cases() -> dict[str, Callable[[], Record]]:
    """What the test looks at, by name."""
    found: dict[str, Callable[[], Record]] = {}
    for task, model in TASKS.items():
        for precision, norm in (("bfloat16", None), ("float32", 1.0)):
            program = training(task, UPDATES, precision, model, max_norm=norm)
            found[f"{task} in {precision}"] = lambda program=program: run_on_both(program)
        found[f"one update: {task}"] = lambda task=task, model=model: difference(
            lambda count: training(task, count, "bfloat16", model), 3
        )
    for kind, how in itertools.product(KINDS, ("greedy", "beam", "sampling")):
        found[f"{how}: {kind}"] = lambda kind=kind, how=how: run_on_both(searching(kind, how, LONG))
        found[f"one step: {how}, {kind}"] = lambda kind=kind, how=how: difference(
            lambda length: searching(kind, how, length, keep_open), LONG - 2
        )
    found["beam: all processors"] = lambda: run_on_both(
        searching("encoder_decoder", "beam", LONG, all_processors)
    )
    for kind in KINDS:
        found[f"prefill: {kind}"] = lambda kind=kind: run_on_both(prefilling(kind, 0))
        found[f"one step: {kind}"] = lambda kind=kind: difference(lambda n: prefilling(kind, n), 2)
        found[f"select: {kind}"] = lambda kind=kind: run_on_both(prefilling(kind, 1, [1, 1, 0, 0, 2, 2]))
    return found


def difference(program: Callable[[int], Any], count: int) -> Record:
    """What one more of `count` does."""
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
