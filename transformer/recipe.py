"""From settings to a trained model: builds task, tokenizer, batches and model, and runs the training loop."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transformer.checkpoint.pretrained import Build
from transformer.checkpoint.run import STEP, Run, checkpoint_to_resume
from transformer.config import Settings
from transformer.config.checks import require
from transformer.custom import Parts
from transformer.hardware import choose_device, tf32_products, without_cudnn_attention
from transformer.kernels.allocator import keep_freed_memory
from transformer.locks import HeldFolder
from transformer.model.build import build_model
from transformer.preparation import planned_model, set_up
from transformer.tasks.task import Task
from transformer.training.agreement import asked_for, require_free
from transformer.training.distributed import Group, process_group
from transformer.training.interruption import stopping_at_once
from transformer.training.log import Event, Log, telling
from transformer.training.loop import fit, no_figures
from transformer.training.memory import Need, needs
from transformer.training.optimizer import MakeOptimizer
from transformer.training.rehearsal import Rehearsal, rehearse
from transformer.training.rescue import Rescue
from transformer.training.saving import Saver
from transformer.training.update_rule import Schedule


def silent(*_: Any, **__: Any) -> None:
    """A no-op that replaces `say` and `log` in all processes except the first."""


def train(
    settings: Settings,
    *,
    build: Build = build_model,
    task: type[Task] | None = None,
    optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    on_event: Callable[[Event], object] = silent,
    figures: Callable[[nn.Module], Mapping[str, float]] = no_figures,
    resume: bool = False,
    say: Callable[[str], None] = silent,
) -> Path:
    """Train the model that `settings` describe, and return the run's folder, `settings.output`.

    Each of these arguments replaces or adds one part (docs/extending.md):
    `build` builds the model from `settings.model`, without the head that a task may add;
    `task` is a class that reads the text and defines the loss and the validation;
    `optimizer` makes one or more torch optimizers from the list of named parameters;
    `schedule` maps the step number of an update, counted from 1, to the learning rate;
    `on_event` is called with each `Event` of the log, in the first process;
    `figures` is called with the model in each update that is logged, between the backward pass and the
    optimizer's step, and returns numbers to add to the log.

    If `resume` is True, an unfinished run continues from its last complete checkpoint; if there is no run
    yet, a new run is started. On a CPU, a resumed run gives bitwise the same results as an uninterrupted one.
    `say` is called with a line about each stage.

    Raises `ValueError` if the folder already holds a run and `resume` is False, or if that run does not match
    the settings. After SIGTERM, SIGHUP, SIGUSR1 or SIGINT, everything is saved, and `TrainingStopped` is
    raised. Under torchrun, all processes train one model together; `ValueError` is raised if their settings
    differ. Only one process (or group of processes) may train in a folder at a time. In any other process,
    `FolderInUseError` is raised; its message names the process that is training in the folder.
    """
    parts = Parts(build, task, optimizer, schedule)
    settings = parts.named_in(settings)
    keep_freed_memory()
    device = choose_device(settings.device)
    with (
        reproducible(settings.deterministic),
        tf32_products(settings.tf32),
        without_cudnn_attention(),
        process_group(device, settings.training.timeout) as group,
        ExitStack() as held,
    ):
        say = say if group.is_first else silent
        if settings.build is not None:
            say(f"the model is built by {settings.build}")
        if task is not None:
            say(f"the task is {settings.task}")
        run = Run(Path(settings.output))
        folder: HeldFolder | None = None
        if group.size > 1:
            group.require_equal(asked_for(settings, resume=resume, device=device))

        def begin() -> int | None:
            nonlocal folder
            require_free(run, resume)
            folder = held.enter_context(run.locked(say))
            require_free(run, resume)  # another process may have finished a run before we got the lock
            return step_to_resume(run, say)

        with stopping_at_once():
            step = group.from_first(begin)
            last = None if step is None else run.checkpoint(step)
            setup = set_up(settings, run, last, parts, device, group, say)
        log, rescue = silent, None
        if folder is not None:  # in the first process
            rescue = Rescue(folder, setup.settings, setup.tokenizer)
            log = telling(rescue.logging(Log(run, tensorboard=settings.training.tensorboard)), on_event)
        log(
            "data",
            setup.state.step,
            **setup.text.counts,
            parameters=setup.parameters,
            precision=setup.precision,
            device=str(device),
            processes=group.size,
            build=settings.build,
            task=settings.trained_task,
            optimizer=" and ".join(setup.state.update_rule.classes()),
        )
        fit(
            setup.state,
            setup.settings,
            objective=setup.objective,
            evaluate=setup.evaluate,
            precision=setup.precision,
            saver=Saver(run, setup.tokenizer.digest, settings.training, group, log, rescue),
            figures=figures,
        )
        return run.path


def dry_run(
    settings: Settings,
    *,
    build: Build = build_model,
    task: type[Task] | None = None,
    optimizer: MakeOptimizer | None = None,
    say: Callable[[str], None] = silent,
) -> Rehearsal:
    """Build everything that `train` would build, then try the largest batches and time a few updates.

    Nothing is written to `settings.output`. Raises `ValueError` if a batch does not fit into memory.
    """
    require_no_torchrun()
    parts = Parts(build, task, optimizer)
    settings = parts.named_in(settings)
    device = choose_device(settings.device)
    with (
        reproducible(settings.deterministic),
        tf32_products(settings.tf32),
        without_cudnn_attention(),
        tempfile.TemporaryDirectory() as folder,
    ):
        setup = set_up(settings, Run(Path(folder)), None, parts, device, Group(), say)
        return rehearse(setup.state, setup.settings, objective=setup.objective, precision=setup.precision)


def plan(
    settings: Settings,
    *,
    build: Build = build_model,
    task: type[Task] | None = None,
    say: Callable[[str], None] = silent,
) -> list[Need]:
    """Compute the memory that each process would need under FSDP, for 1, 2, 4, … processes.

    No weights are allocated.
    """
    require_no_torchrun()
    parts = Parts(build, task)
    return list(needs(planned_model(parts.named_in(settings), parts, say)))


def require_no_torchrun() -> None:
    require(int(os.environ.get("WORLD_SIZE", "1")) == 1, "a dry run is for one process, without torchrun")


def step_to_resume(run: Run, say: Callable[[str], None]) -> int | None:
    """Return the step number of the checkpoint to resume from, or None if there is no checkpoint."""
    found = checkpoint_to_resume(run, say)
    return None if found is None else int(found.name.removeprefix(STEP))


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Inside the block, if `deterministic`, torch uses only algorithms that always give the same result."""
    if not deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # otherwise cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
