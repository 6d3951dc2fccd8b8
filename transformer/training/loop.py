"""The training loop (§5), written as one function in the order in which things happen."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from transformer.checkpoint.parts import whole
from transformer.config import Precision, Settings, TrainingConfig
from transformer.config.errors import is_out_of_memory
from transformer.hardware import autocast
from transformer.kernels.loss import GradientScale, scaling_gradients
from transformer.messages import tell, warn
from transformer.progress import Progress
from transformer.training.distributed import ALONE, Group, is_sharded
from transformer.training.finite import FiniteGuard, first_not_finite
from transformer.training.interruption import TrainingStopped, stop_requests
from transformer.training.log import Meter
from transformer.training.objectives import (
    CompiledObjective,
    Loss,
    Objective,
    in_precision,
    objective_at,
)
from transformer.training.parallel import reshard
from transformer.training.report import validation_report
from transformer.training.saving import Saver
from transformer.training.slowdown import Slowdown
from transformer.training.state import TrainingState, seed_update
from transformer.training.updates import Update, shapes_of, updates

HALVINGS = 16
"""How many times float16's initial loss scale, 2^16, can be halved until it is 1. Each halving skips an
update, so this many skipped updates in a row are normal."""


UNSCALED = GradScaler(enabled=False)


def no_figures(_: nn.Module) -> Mapping[str, float]:
    return {}


def fit(
    state: TrainingState,
    settings: Settings,
    *,
    objective: Objective,
    evaluate: Callable[[nn.Module, Group], Mapping[str, Any]] | None,
    precision: Precision,
    saver: Saver,
    figures: Callable[[nn.Module], Mapping[str, float]] = no_figures,
) -> None:
    """Train `state` up to update `training.max_steps`; `saver` writes checkpoints and the log.

    `evaluate` computes metrics of the model, and may add `samples` (training/report.py). The processes of the
    saver's group share this work. The metric named by `training.best_metric`, as computed by the first
    process, decides which checkpoint is the best.

    `figures` is called with the model in each update that is logged, after the backward pass and before the
    optimizer step. The numbers that it returns are added to the log. If the model is sharded, all processes
    call it; otherwise only the first process does.

    After a signal, everything is saved and `TrainingStopped` is raised. `DivergedError` is raised after too
    many skipped updates in a row. Every process of the group must call this function.
    """
    training, group, log = settings.training, saver.group, saver.log
    model = state.model
    device = next(model.parameters()).device
    forward = group.wrap(model, device)
    computed = CompiledObjective(objective) if training.compile else objective
    scaler = state.scaler
    most_skipped = training.max_skipped + (HALVINGS if scaler.is_enabled() else 0)
    meter, guard = Meter(group), FiniteGuard(most_skipped, group)
    slowdown = Slowdown(torch.get_num_threads() if device.type == "cpu" and group.is_first else 1)
    upcoming = updates(state.batches, training.accumulate, group, device)
    if state.step:
        log("resume", state.step)

    def find_cause(step: int, update: Update) -> str:
        model.zero_grad(set_to_none=True)
        seed_update(settings.seed, step, group.rank)
        current = in_precision(objective_at(objective, step), device, precision)
        return first_not_finite(model, partial(accumulate_gradients, current, model, update.batches))

    with (
        Progress(training.max_steps, "update", done=state.step, hidden=not group.is_first) as progress,
        stop_requests() as stop,
        group.naming_lost_processes(),
        closing(upcoming),
        saver.writing(),
    ):
        while state.step < training.max_steps and not is_stale(state, training):
            began = time.perf_counter()
            step = state.step + 1
            model.train()
            rate = state.update_rule.set_rate(step)
            with naming_what_is_too_large():
                update = next(upcoming)
            tokens, stops, saves = group.sum(update.tokens, bool(stop), saver.wants_one(step))
            seed_update(settings.seed, step, group.rank)
            stops = stops if step < training.max_steps else 0  # the last update ends and saves anyway
            is_last = step == training.max_steps or bool(stops)
            is_saving = saver.is_due(step) or saves > 0 or is_last
            is_logging = step % training.log_every == 0 or is_saving
            with naming_what_is_too_large(update.batches):
                current = in_precision(objective_at(computed, step), device, precision)
                loss = accumulate_gradients(
                    current, forward, update.batches, tokens=tokens, group=group, scaler=scaler
                )
                state.update_rule.unscale(scaler)
                added = figures(model) if is_logging and (group.is_first or is_sharded(model)) else {}
                reshard(model)  # `figures` may have called the model
                norm = clip_gradients(model, training.max_norm)
                finite = guard.is_finite(step, update, loss.total, norm)
                state.update_rule.step(finite)
                scaler.update()
            meter.add(loss.total, tokens, finite)
            state.step, state.position = step, update.position
            progress.update()

            reads_all = is_logging or device.type == "cpu"
            if reads_all or guard.is_full:  # seldom: reading forces a synchronization with the GPU
                for skipped in guard.read(find_cause, but_newest=0 if reads_all else 1):
                    log("skip", skipped)
                    if group.is_first and not scaler.is_enabled():  # float16 overflows now and then
                        warn(f"update {skipped} was skipped: its loss or gradient is not finite")
            if is_logging:
                values = meter.read()
                progress.note = "loss {loss:.3f}, {tokens_per_second:7,.0f} tokens/s".format(**values)
                added = {name: float(whole(value)) for name, value in added.items()}
                log("train", step, rate=rate, gradient_norm=float(norm), **values, **added)
            seconds = time.perf_counter() - began
            state.seconds += seconds
            if advice := slowdown.advice(seconds):
                warn(advice)

            is_best = False
            is_due = step % training.valid_every == 0 or (is_last and not stops)  # be quick after a signal
            if evaluate is not None and is_due:
                casting = autocast(device, precision, keeps_casts=not is_sharded(model))
                with meter.paused(), naming_what_is_too_large(), casting:
                    metrics = evaluate(model.eval(), group)
                reshard(model)
                log("valid", step, **metrics)
                is_best = state.is_better(group.of_first(metrics[training.best_metric]))
                if group.is_first:
                    tell(validation_report(step, metrics, training.best_metric if is_best else None))
                is_last = is_last or is_stale(state, training)
            if is_saving or is_best or is_last:
                with meter.paused():
                    saver.save(state, is_best=is_best, is_end=is_last)
                    if is_last:
                        group.sum(0)  # barrier: if another process exits first, torchrun kills the writer
            if stops:
                log("stop", step)
                raise TrainingStopped(f"stopped by {stop.name or 'another process'} after update {step}")
    if is_stale(state, training) and state.step < training.max_steps:
        log("early_stop", state.step)


def is_stale(state: TrainingState, settings: TrainingConfig) -> bool:
    """Whether training should stop: the last `training.patience` validations brought no new best."""
    return settings.patience is not None and state.stale >= settings.patience


def accumulate_gradients(
    objective: Objective,
    model: Any,
    batches: Sequence[Any],
    *,
    tokens: int | None = None,
    group: Group = ALONE,
    scaler: GradScaler = UNSCALED,
) -> Loss:
    """Compute the gradients of the update's mean loss per token.

    The gradients do not depend on how the update is divided into batches. They are multiplied by the loss
    scale of `scaler`; call `scaler.unscale_` before using them.

    `tokens` is the number of target tokens in all processes of `group`; if it is None, only the tokens in
    `batches` are counted. DDP averages gradients over the processes; multiplying by the number of processes
    turns the average back into a sum. Returns the sum of this process's losses.
    """
    tokens = max(1, tokens or sum(batch.target_tokens for batch in batches))
    scale = GradientScale(group.size / tokens, scaler)
    totals = []
    for number, batch in enumerate(batches, start=1):
        with group.without_sync(model) if number < len(batches) else nullcontext():
            with scaling_gradients(scale):
                loss = objective(model, batch)
            torch.autograd.backward(loss.total, scale.like(loss.total))
        totals.append(loss.total.detach())
    return Loss(torch.stack(totals).sum(), tokens)


def clip_gradients(model: nn.Module, max_norm: float | None) -> Tensor:
    """Clip the gradients to `max_norm`, unless it is None, and return their norm before clipping."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
    return whole(norm)


@contextmanager
def naming_what_is_too_large(batches: Sequence[Any] = ()) -> Iterator[None]:
    """Turn an out-of-memory error into a `ValueError` that gives the batches' shapes and a remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = f" in an update with {'; '.join(map(shapes_of, batches))}" if batches else ""
        raise ValueError(
            f"out of memory{where}; lower training.tokens_per_batch, and raise "
            "training.accumulate by the same factor to keep the size of the update"
        ) from error
