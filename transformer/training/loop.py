"""The training loop (§5): one function, in the order in which things happen."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from transformer.checkpoint import Run
from transformer.config import Precision, TrainingConfig
from transformer.hardware import autocast, training_attention
from transformer.training.objectives import Loss, Objective
from transformer.training.schedule import learning_rate
from transformer.training.state import TrainingState


def make_optimizer(model: nn.Module, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Adam as in §5.3, all parameters in one fused call; with weight decay, AdamW."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=0.0,  # set before every update
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


class Log:
    """A run's `log.jsonl`: one JSON object per event, written at once."""

    def __init__(self, run: Run) -> None:
        self.path = run.log

    def __call__(self, event: str, step: int, **values: Any) -> None:
        entry = {"event": event, "step": step, "time": round(time.time(), 3), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def fit(
    state: TrainingState,
    settings: TrainingConfig,
    *,
    run: Run,
    log: Log,
    d_model: int,
    device: torch.device,
    precision: Precision,
    tokenizer_hash: str,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None,
    objective: Objective,
) -> None:
    """Train `state` up to `settings.max_steps` updates, with checkpoints in `run`.

    `evaluate` maps the model to metrics; the checkpoint with the lowest `loss` among them is the best.
    """
    model, optimizer = state.model, state.optimizer
    forward = torch.compile(model, dynamic=True) if settings.compile else model
    meter = Meter()
    if state.step:
        log("resume", state.step)
    with progress_bar(state.step, settings.max_steps) as bar:
        for step in range(state.step + 1, settings.max_steps + 1):
            is_last, is_best = step == settings.max_steps, False
            model.train()
            rate = set_learning_rate(optimizer, learning_rate(step, d_model, settings))
            update = [next(state.batches).to(device) for _ in range(settings.accumulate)]
            with autocast(device, precision), training_attention(device):
                meter.add(accumulate_gradients(objective, forward, update, settings.label_smoothing))
            norm = clip_gradients(model, settings.max_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.step = step
            bar.update()
            is_saving = step % settings.save_every == 0 or is_last
            if step % settings.log_every == 0 or is_saving:  # reading refuses what must not be saved
                values = meter.read(step)
                bar.set_postfix_str(f"loss {values['loss']:.3f}, {values['tokens_per_second']:,.0f} tokens/s")
                log("train", step, rate=rate, gradient_norm=float(norm), **values)
            if evaluate is not None and (step % settings.valid_every == 0 or is_last):
                with meter.paused(), autocast(device, precision):
                    metrics = evaluate(model.eval())
                log("valid", step, **metrics)
                is_best = metrics["loss"] < state.best_loss
                state.best_loss = metrics["loss"] if is_best else state.best_loss
            if is_saving or is_best:
                with meter.paused():
                    state.save(run, tokenizer_hash=tokenizer_hash, keep=settings.keep, is_best=is_best)
                log("save", step)


def progress_bar(done: int, total: int) -> "tqdm[NoReturn]":
    """On a terminal it moves all the time; in a file a line now and then is enough."""
    seconds = 0.2 if sys.stderr.isatty() else 15.0
    return tqdm(total=total, initial=done, unit="update", mininterval=seconds, maxinterval=2 * seconds)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def accumulate_gradients(
    objective: Objective, model: Any, update: Sequence[Any], label_smoothing: float
) -> Loss:
    """Gradients of the sum over the update's tokens / their number, however it is cut into batches."""
    tokens = sum(batch.target_tokens for batch in update)
    totals = []
    for batch in update:
        loss = objective(model, batch, label_smoothing=label_smoothing)
        torch.autograd.backward(loss.total / tokens)
        totals.append(loss.total.detach())
    return Loss(torch.stack(totals).sum(), tokens)


def clip_gradients(model: nn.Module, max_norm: float | None) -> Tensor:
    """Scale the gradients down to `max_norm`, or only measure; returns their norm before."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return norm


class Meter:
    """Mean loss per token and target tokens per second since the last reading.

    Losses are added up on their device and only read back when asked for, so that a GPU never waits.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.tokens = 0
        self.start = time.perf_counter()

    def add(self, loss: Loss) -> None:
        self.losses.append(loss.total)
        self.tokens += loss.tokens

    def read(self, step: int) -> dict[str, float]:
        """The figures since the last reading; `ValueError` if the loss is no longer a number."""
        loss = float(torch.stack(self.losses).sum()) / self.tokens
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss was {loss} before update {step}: training has diverged. Lower "
                "training.rate_scale, raise training.warmup_steps or set training.max_norm, and --resume"
            )
        seconds = time.perf_counter() - self.start
        values = {"loss": loss, "tokens": self.tokens, "tokens_per_second": self.tokens / seconds}
        self.losses, self.tokens, self.start = [], 0, time.perf_counter()
        return values

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count as time spent on training."""
        began = time.perf_counter()
        yield
        self.start += time.perf_counter() - began
