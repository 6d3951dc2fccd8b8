"""From settings to a trained model: builds task, tokenizer, batches and model, and runs the loop."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transformer.checkpoint.format import MODEL, OPTIMIZER, STATE
from transformer.checkpoint.pretrained import OpenedRun, open_checkpoint, require_plausible
from transformer.checkpoint.reading import load_model
from transformer.checkpoint.run import STEP, Run, checkpoint_to_resume, find_run
from transformer.config import ModelConfig, Precision, Settings
from transformer.config.checks import require
from transformer.config.files import save_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer
from transformer.hardware import (
    choose_device,
    choose_precision,
    loss_scaler,
    tf32_products,
    without_cudnn_attention,
)
from transformer.kernels.allocator import keep_freed_memory
from transformer.locks import HeldFolder
from transformer.model.build import build_model
from transformer.model.heads import with_head
from transformer.tasks.task import Evaluate, TokenizedText, task_class, validation_of
from transformer.training.agreement import asked_for, require_free, require_startable, what_was_read
from transformer.training.distributed import Group, process_group
from transformer.training.interruption import stopping_at_once
from transformer.training.log import Log
from transformer.training.loop import fit, make_optimizer
from transformer.training.memory import require_memory
from transformer.training.objectives import Objective
from transformer.training.rehearsal import Rehearsal, rehearse
from transformer.training.rescue import Rescue
from transformer.training.resuming import completed, require_same, with_recorded
from transformer.training.saving import Saver
from transformer.training.state import TrainingState

Build = Callable[[ModelConfig], nn.Module]

CHECKED = (MODEL, OPTIMIZER, STATE)
"""The files whose hashes the first process has already checked when it chose the checkpoint."""


def silent(*_: Any, **__: Any) -> None:
    """A `say` or `log` that does nothing, for all processes except the first."""


def train(
    settings: Settings,
    *,
    build: Build = build_model,
    resume: bool = False,
    say: Callable[[str], None] = silent,
) -> Path:
    """Train the model that `settings` describe; returns the run's folder, `settings.output`.

    `build` makes the model, except for the head of an encoder-only one; pass your own function to train
    another model. With `resume`, an unfinished run continues from its last complete checkpoint, on a CPU with
    bitwise identical results, and a run that does not exist yet is started. `say` is called with a line about
    each stage.

    `ValueError` if the folder holds a run and `resume` is not set, or if the run in it does not match the
    settings. `TrainingStopped` after SIGTERM, SIGHUP, SIGUSR1 or SIGINT, with everything saved. Started by
    torchrun, all processes train the same model; `ValueError` if their settings differ. Only one process
    or group may train in a folder; for any other, `FolderInUseError` names the one that does.
    """
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
        run = Run(Path(settings.output))
        folder: HeldFolder | None = None
        if group.size > 1:
            group.require_equal(asked_for(settings, resume=resume, build=build, device=device))

        def begin() -> int | None:
            nonlocal folder
            require_free(run, resume)
            folder = held.enter_context(run.locked(say))
            require_free(run, resume)  # another process may have finished a run here before we got the lock
            return step_to_resume(run, say)

        with stopping_at_once():
            step = group.from_first(begin)
            last = None if step is None else run.checkpoint(step)
            setup = set_up(settings, run, last, build, device, group, say)
        log, rescue = silent, None
        if folder is not None:  # in the first process
            rescue = Rescue(folder, setup.settings, setup.tokenizer)
            log = rescue.logging(Log(run, tensorboard=settings.training.tensorboard))
        log(
            "data",
            setup.state.step,
            **setup.text.counts,
            parameters=setup.parameters,
            precision=setup.precision,
            device=str(device),
            processes=group.size,
        )
        fit(
            setup.state,
            setup.settings,
            objective=setup.objective,
            evaluate=setup.evaluate,
            precision=setup.precision,
            saver=Saver(run, setup.tokenizer.digest, settings.training, group, log, rescue),
        )
        return run.path


def dry_run(
    settings: Settings, *, build: Build = build_model, say: Callable[[str], None] = silent
) -> Rehearsal:
    """Build everything that `train` would, compute the largest batch and a few updates, and write nothing.

    `ValueError` if that batch does not fit into memory.
    """
    require(int(os.environ.get("WORLD_SIZE", "1")) == 1, "a dry run is for one process, without torchrun")
    device = choose_device(settings.device)
    with (
        reproducible(settings.deterministic),
        tf32_products(settings.tf32),
        without_cudnn_attention(),
        tempfile.TemporaryDirectory() as folder,
    ):
        setup = set_up(settings, Run(Path(folder)), None, build, device, Group(), say)
        return rehearse(setup.state, setup.settings, objective=setup.objective, precision=setup.precision)


def step_to_resume(run: Run, say: Callable[[str], None]) -> int | None:
    """The number of the update whose checkpoint training continues from; `None` without a checkpoint."""
    found = checkpoint_to_resume(run, say)
    return None if found is None else int(found.name.removeprefix(STEP))


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that training needs, built from the settings."""

    settings: Settings
    """The settings as given, completed with the values that depend on the text and the tokenizer."""
    tokenizer: Tokenizer
    text: TokenizedText
    objective: Objective
    evaluate: Evaluate | None
    state: TrainingState
    precision: Precision

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.state.model.parameters())


def set_up(
    asked: Settings,
    run: Run,
    last: Path | None,
    build: Build,
    device: torch.device,
    group: Group,
    say: Callable[[str], None],
) -> TrainingSetup:
    """Read the text, make or load the tokenizer, build the model and load the checkpoint `last`.

    The first process does each step before the others and writes the files of the run's folder, so that the
    others can read them from there.
    """
    require_trainable(asked.model)
    precision = choose_precision(asked.precision, device)
    is_ours = build is build_model  # the sizes of another model are known only to its builder
    if is_ours:
        require_memory(asked.model, device)
    resumed = None if last is None else open_checkpoint(run, last, unread=CHECKED if group.is_first else ())
    start = opened_start(asked) if resumed is None else None
    wanted, recorded = (asked, None) if resumed is None else with_recorded(asked, resumed.settings)
    if recorded is not None:
        require_same(recorded, completed(wanted, recorded), run)  # before reading a long text in vain
    say(f"reading {asked.data.train}")
    with group.first_alone():
        task = task_class(asked.trained_task)(wanted)
    with group.first_alone():
        if resumed is None and group.is_first:
            say("making the tokenizer")
            made = task.train_tokenizer() if start is None else start.tokenizer
            run.path.mkdir(parents=True, exist_ok=True)
            made.save(run.tokenizer)
        tokenizer = load_tokenizer(run.tokenizer)
        settings = replace(task.settings, model=replace(asked.model, vocab_size=tokenizer.vocab_size))
        if recorded is not None:
            require_same(recorded, settings, run)
        elif group.is_first:
            save_settings(settings, run.config)
    say("tokenizing")
    with group.first_alone():
        text = task.tokenize(tokenizer, settings)
        evaluate = validation_of(task, tokenizer, settings)
    group.wait()
    if group.size > 1:
        group.require_equal(what_was_read(tokenizer, text.batches, evaluate))
    if last is not None and is_ours:
        require_plausible(settings.model, last)
    model = make_model(settings, build, start).to(device)
    optimizer, scaler = make_optimizer(model, settings.training), loss_scaler(device, precision)
    state = TrainingState(model, optimizer, text.batches, scaler=scaler)
    if last is not None:
        state.load(last)
        if group.is_first:  # only now, when no check can fail any more, may files be deleted or overwritten
            run.clean(state.step)
            save_settings(settings, run.config)
    objective = task.objective(settings)
    setup = TrainingSetup(settings, tokenizer, text, objective, evaluate, state, precision)
    processes = f", {group.size} processes" if group.size > 1 else ""
    say(
        f"{text.summary}, vocabulary {tokenizer.vocab_size:,}, {setup.parameters:,} parameters, "
        f"{precision} on {device}{processes}"
    )
    return setup


def opened_start(settings: Settings) -> OpenedRun | None:
    """The run that `training.start_from` names, checked against the settings; `None` if it is not set."""
    if settings.training.start_from is None:
        return None
    start = open_checkpoint(*find_run(settings.training.start_from))
    require_startable(start.settings, settings)
    return start


def make_model(settings: Settings, build: Build, start: OpenedRun | None) -> nn.Module:
    """The model with its task's head, initialised by the seed.

    With `start` it gets the weights of that run's checkpoint, or only those of the encoder if that run was
    trained for another task or other classes.
    """
    torch.manual_seed(settings.seed)
    model = with_head(build(settings.model), settings)
    if start is None:
        return model
    before = start.settings
    if before.trained_task == settings.trained_task and before.data.classes == settings.data.classes:
        load_model(model, start.checkpoint)
    else:
        require(
            before.model.kind == settings.model.kind == "encoder_only",
            f"training.start_from {settings.training.start_from} was trained for {before.trained_task}, "
            f"which leaves nothing to start {settings.trained_task} from",
        )
        load_model(model.encoder, start.checkpoint, part="encoder.")  # type: ignore[arg-type]
    return model


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Inside, torch uses only algorithms that give the same result every time, if `deterministic`."""
    if not deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this set
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def require_trainable(model: ModelConfig) -> None:
    """`ValueError` for a model that this recipe cannot train, before anything is read or written."""
    ids = model.special_ids
    wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    require(
        ids == wanted, f"model.pad_id, bos_id, eos_id, unk_id are {ids}; the tokenizer's ids are {wanted}"
    )
