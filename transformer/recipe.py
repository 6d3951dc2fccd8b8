"""From settings to a trained model: task, tokenizer, batches, model and loop, put together."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.pretrained import require_plausible
from transformer.checkpoint.reading import load_model, read_manifest
from transformer.checkpoint.run import STEP, Run, checkpoint_to_resume, find_run
from transformer.config import ModelConfig, Precision, Settings
from transformer.config.checks import require
from transformer.config.files import load_settings, save_settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer
from transformer.hardware import choose_device, choose_precision
from transformer.kernels.allocator import keep_freed_memory
from transformer.locks import HeldFolder
from transformer.model.build import build_model
from transformer.model.heads import with_head
from transformer.tasks.task import Evaluate, TokenizedText, task_class, validation_of
from transformer.training.agreement import asked_for, require_free, tokenizer_of, what_was_read
from transformer.training.distributed import Group, process_group
from transformer.training.interruption import stopping_at_once
from transformer.training.log import Log
from transformer.training.loop import fit, make_optimizer
from transformer.training.memory import require_memory
from transformer.training.objectives import Objective
from transformer.training.rehearsal import Rehearsal, rehearse
from transformer.training.rescue import Rescue
from transformer.training.resuming import require_same, with_recorded
from transformer.training.state import TrainingState

Build = Callable[[ModelConfig], nn.Module]


def silent(*_: Any, **__: Any) -> None:
    """What the processes beside the first one say and log."""


def train(
    settings: Settings,
    *,
    build: Build = build_model,
    resume: bool = False,
    say: Callable[[str], None] = silent,
) -> Path:
    """Train the model that `settings` describe; returns the run's folder, `settings.output`.

    `build` makes the model, of an encoder-only one all but the head; a researcher passes an own one. With
    `resume` an unfinished run goes on from its last whole checkpoint, to the bit on a CPU, and a run that
    does not exist yet starts. `say` is told in a line what is being done. `ValueError` if the folder holds a
    run and `resume` is not set, or if it holds another one; `TrainingStopped` after SIGTERM, SIGINT or
    SIGUSR1, with everything saved. Started by torchrun, all its processes train the one model; `ValueError`
    if they were given different things to do. Only one process, or group, may train in a folder:
    `FolderInUseError` names the one that does.
    """
    keep_freed_memory()
    device = choose_device(settings.device)
    with (
        reproducible(settings.deterministic),
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
            require_free(run, resume)  # another process may just have ended here
            return step_to_resume(run, say)

        with stopping_at_once():
            step = group.from_first(begin)
            last = None if step is None else run.checkpoint(step)
            workplace = prepare(settings, run, last, build, device, group, say)
        log, rescue = silent, None
        if folder is not None:  # in the first process
            rescue = Rescue(folder, workplace.settings, workplace.tokenizer)
            log = rescue.logging(Log(run, tensorboard=settings.training.tensorboard))
        log(
            "data",
            workplace.state.step,
            **workplace.text.counts,
            parameters=workplace.parameters,
            precision=workplace.precision,
            device=str(device),
            processes=group.size,
        )
        fit(
            workplace.state,
            settings.training,
            run=run,
            log=log,
            d_model=settings.model.d_model,
            device=device,
            precision=workplace.precision,
            tokenizer_hash=workplace.tokenizer.digest,
            evaluate=workplace.evaluate,
            objective=workplace.objective,
            seed=settings.seed,
            group=group,
            rescue=rescue,
        )
        return run.path


def dry_run(
    settings: Settings, *, build: Build = build_model, say: Callable[[str], None] = silent
) -> Rehearsal:
    """Build all that `train` would, compute the largest batch and a few updates, and write nothing.

    `ValueError` if that batch does not fit into the memory.
    """
    require(int(os.environ.get("WORLD_SIZE", "1")) == 1, "a dry run is for one process, without torchrun")
    device = choose_device(settings.device)
    with reproducible(settings.deterministic), tempfile.TemporaryDirectory() as folder:
        workplace = prepare(settings, Run(Path(folder)), None, build, device, Group(), say)
        return rehearse(
            workplace.state,
            settings.training,
            d_model=settings.model.d_model,
            device=device,
            precision=workplace.precision,
            objective=workplace.objective,
        )


def step_to_resume(run: Run, say: Callable[[str], None]) -> int | None:
    """The update whose checkpoint training continues from, if there is one."""
    found = checkpoint_to_resume(run, say)
    return None if found is None else int(found.name.removeprefix(STEP))


@dataclass(frozen=True)
class Workplace:
    """All that training needs, built."""

    settings: Settings
    """With what the text decides filled in."""
    state: TrainingState
    text: TokenizedText
    objective: Objective
    evaluate: Evaluate | None
    tokenizer: Tokenizer
    precision: Precision

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.state.model.parameters())


def prepare(
    settings: Settings,
    run: Run,
    last: Path | None,
    build: Build,
    device: torch.device,
    group: Group,
    say: Callable[[str], None],
) -> Workplace:
    """Read the text, make or load the tokenizer, build the model and load the checkpoint `last`.

    The first process makes what the run's folder keeps, and reads the text first; the others find it there.
    """
    require_trainable(settings.model)
    precision = choose_precision(settings.precision, device)
    is_ours = build is build_model  # the sizes of other models are their builders' affair
    if is_ours:
        require_memory(settings.model, device)
    before = None if last is None else load_settings(run.config)
    if before is not None:
        settings, before = with_recorded(settings, before)
    say(f"reading {settings.data.train}")
    with group.first_alone():
        task = task_class(settings.trained_task)(settings)
    start_from = settings.training.start_from if last is None else None
    start = None if start_from is None else find_run(start_from)
    with group.first_alone():
        if group.is_first and last is None:
            say("making the tokenizer")
            made = task.train_tokenizer() if start is None else tokenizer_of(start, settings)
            run.path.mkdir(parents=True, exist_ok=True)
            made.save(run.tokenizer)
        tokenizer = load_tokenizer(run.tokenizer)
        settings = replace(task.settings, model=replace(settings.model, vocab_size=tokenizer.vocab_size))
        if before is not None:
            require_same(before, settings, run)
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
    state = TrainingState(model, make_optimizer(model, settings.training), text.batches)
    if last is not None:
        if read_manifest(last)["tokenizer"] != tokenizer.digest:
            raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {last} was trained with")
        state.load(last)
        if group.is_first:  # only now nothing can be refused any more
            run.clean(state.step)
            save_settings(settings, run.config)
    workplace = Workplace(settings, state, text, task.objective(settings), evaluate, tokenizer, precision)
    processes = f", {group.size} processes" if group.size > 1 else ""
    say(
        f"{text.summary}, vocabulary {tokenizer.vocab_size:,}, {workplace.parameters:,} parameters, "
        f"{precision} on {device}{processes}"
    )
    return workplace


def make_model(settings: Settings, build: Build, start: tuple[Run, Path] | None) -> nn.Module:
    """The model with its task's head, initialised by the seed.

    With `start`, a run and one of its checkpoints, its weights are that model's; where that was trained for
    another task, only the encoder's.
    """
    torch.manual_seed(settings.seed)
    model = with_head(build(settings.model), settings)
    if start is None:
        return model
    run, checkpoint = start
    before = load_settings(run.config)
    if before.trained_task == settings.trained_task and before.data.classes == settings.data.classes:
        load_model(model, checkpoint)
    else:
        require(
            before.model.kind == settings.model.kind == "encoder_only",
            f"training.start_from {run.path} was trained for {before.trained_task}, which leaves nothing to "
            f"start {settings.trained_task} from",
        )
        load_model(model.encoder, checkpoint, part="encoder.")  # type: ignore[arg-type]
    return model


@contextmanager
def reproducible(deterministic: bool) -> Iterator[None]:
    """Inside, torch uses only algorithms that give equal results each time, if so asked."""
    if not deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def require_trainable(model: ModelConfig) -> None:
    """Refuse what this recipe cannot train before anything is read or written."""
    ids = (model.pad_id, model.bos_id, model.eos_id, model.unk_id)
    wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    require(
        ids == wanted, f"model.pad_id, bos_id, eos_id, unk_id are {ids}; the tokenizer's ids are {wanted}"
    )
