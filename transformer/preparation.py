"""Everything that a training run needs, built from its settings: task, tokenizer, text, model, optimizer."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from transformer.checkpoint.format import MODEL, OPTIMIZER, STATE
from transformer.checkpoint.opening import OpenedRun, open_checkpoint, require_plausible
from transformer.checkpoint.pretrained import Build, require_builder
from transformer.checkpoint.run import Run, find_run
from transformer.checkpoint.weights import load_model
from transformer.config import ModelConfig, Precision, Settings
from transformer.config.checks import require
from transformer.config.errors import shortened
from transformer.config.files import save_settings
from transformer.custom import Parts, chosen_task
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.pair import PairTokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer
from transformer.hardware import choose_precision, loss_scaler
from transformer.model.build import build_model
from transformer.tasks.registry import is_custom
from transformer.tasks.task import Evaluate, Task, TokenizedText, validation_of
from transformer.training.agreement import require_startable, what_was_read
from transformer.training.deferred import Deferred
from transformer.training.distributed import ALONE, Group
from transformer.training.layers import recompute_layers
from transformer.training.memory import require_memory
from transformer.training.model_size import sized_as_recorded, sized_by_text
from transformer.training.objectives import Objective
from transformer.training.parallel import PARALLEL
from transformer.training.resuming import completed, require_same, with_recorded
from transformer.training.state import TrainingState
from transformer.training.update_rule import make_update_rule

CPU = torch.device("cpu")
CHECKED = (MODEL, OPTIMIZER, STATE)
"""Files whose hashes the first process already checked when it chose the checkpoint."""


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


class Material(NamedTuple):
    """Everything that training needs except the model and its optimizers."""

    settings: Settings
    """The settings, completed as in `TrainingSetup`."""
    tokenizer: Tokenizer
    text: TokenizedText
    evaluate: Evaluate | None
    task: Task
    start: OpenedRun | None
    """The run that `training.start_from` names."""


def set_up(
    asked: Settings,
    run: Run,
    last: Path | None,
    parts: Parts,
    device: torch.device,
    group: Group,
    say: Callable[[str], None],
) -> TrainingSetup:
    """Read the text, make or load the tokenizer, build the model and load the checkpoint `last`."""
    require_trainable(asked.model)
    precision = choose_precision(asked.precision, device)
    resumed = None if last is None else open_checkpoint(run, last, unread=CHECKED if group.is_first else ())
    if resumed is not None:
        asked = sized_as_recorded(asked, resumed.settings)
    is_ours = parts.build is build_model  # the size of a custom model is not known
    is_known = asked.training.model_size == "given"
    if is_ours and is_known and parts.optimizer is None:  # a custom optimizer may need less memory than Adam
        require_memory(asked, device, group)
    material = read_material(asked, run, resumed, parts, group, say)
    settings, tokenizer, text, evaluate, task, start = material
    if last is not None and is_ours:
        require_plausible(settings.model, last)
    model = make_model(settings, parts.build, type(task), start, device, group)
    if settings.training.recompute:
        recompute_layers(model)
    scaler = loss_scaler(device, precision)
    rule = make_update_rule(model, settings, parts.optimizer, parts.schedule)
    is_lower_better = settings.training.best_metric in task.lower_is_better
    state = TrainingState(model, rule, text.batches, lower_is_better=is_lower_better, scaler=scaler)
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


def read_material(
    asked: Settings,
    run: Run,
    resumed: OpenedRun | None,
    parts: Parts,
    group: Group,
    say: Callable[[str], None],
) -> Material:
    """Read the text, and make or load the tokenizer; `resumed` is the run to continue, if there is one.

    The first process does each step before the other processes. It also writes the files of the run's folder,
    which the other processes then read.
    """
    start = opened_start(asked, parts) if resumed is None else None
    task_class = chosen_task(asked, parts.task)
    wanted, recorded = asked, None
    if resumed is not None:
        require_builder(resumed.settings, parts.build, run.path)
        wanted, recorded = with_recorded(asked, resumed.settings, task_class.metrics)
        require_same(recorded, completed(wanted, recorded), run)  # fail before reading a long text
    say(f"reading {asked.data.train}")
    with group.first_alone():
        task = task_class(wanted)
    with group.first_alone():
        if resumed is None and group.is_first:
            say("training the tokenizer")
            made = task.train_tokenizer() if start is None else start.tokenizer
            run.path.mkdir(parents=True, exist_ok=True)
            made.save(run.tokenizer)
        tokenizer = load_tokenizer(run.tokenizer)
        settings = replace(task.settings, model=with_vocabulary(asked.model, tokenizer))
        if recorded is not None:
            require_same(recorded, settings, run)
        elif group.is_first:  # so that after an interruption --resume works without the other options
            save_settings(settings, run.config)
    say("tokenizing")
    with group.first_alone():
        text = task.tokenize(tokenizer, settings)
        settings = sized_by_text(settings, text.batches, say)
        if recorded is None and group.is_first:
            save_settings(settings, run.config)
        evaluate = validation_of(task, tokenizer, settings)
    group.wait()
    if group.size > 1:
        group.require_equal(what_was_read(tokenizer, text.batches, evaluate))
    return Material(settings, tokenizer, text, evaluate, task, start)


def with_vocabulary(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """Return the model's settings with the size of the tokenizer's vocabulary, or of its two vocabularies."""
    source = tokenizer.source.vocab_size if isinstance(tokenizer, PairTokenizer) else None
    return replace(model, vocab_size=tokenizer.vocab_size, source_vocab_size=source)


def opened_start(settings: Settings, parts: Parts) -> OpenedRun | None:
    """Open and check the run that `training.start_from` names; return None if the setting is null."""
    if settings.training.start_from is None:
        return None
    start = open_checkpoint(*find_run(settings.training.start_from))
    require_builder(start.settings, parts.build, f"training.start_from {settings.training.start_from}")
    require_startable(start.settings, settings)
    return start


def make_model(
    settings: Settings,
    build: Build,
    task: type[Task],
    start: OpenedRun | None,
    device: torch.device = CPU,
    group: Group = ALONE,
) -> nn.Module:
    """Build the model with its task's head on `device`, for the parallelism that `training.parallel` names.

    The model's initial values depend on the seed. If the run `start` is given, the weights of its checkpoint
    are loaded instead. If `start` was trained for another task or other classes, its model must be
    encoder-only, and only its encoder's weights are loaded. The new model may then be an encoder-decoder.
    """
    torch.manual_seed(settings.seed)
    # only constructors of this package are known to initialise their parameters one at a time
    can_defer = build is build_model and not is_custom(settings.trained_task)
    place = PARALLEL[settings.training.parallel]
    model = place(lambda: task.head(build(settings.model), settings), device, group, can_defer)
    if start is None:
        return model
    before = start.settings
    if before.trained_task == settings.trained_task and before.data.classes == settings.data.classes:
        load_model(model, start.checkpoint)
    else:
        require(
            before.model.kind == "encoder_only" and settings.model.kind != "decoder_only",
            f"training.start_from {settings.training.start_from} was trained for {before.trained_task}, "
            f"and none of its weights can be used for {settings.trained_task}",
        )
        load_model(model.encoder, start.checkpoint, part="encoder.")  # type: ignore[arg-type]
    return model


def planned_model(asked: Settings, parts: Parts, say: Callable[[str], None]) -> nn.Module:
    """Build the model that `set_up` would build, but on the meta device, where it takes no memory.

    Raises `ValueError` if a custom builder reads a tensor's values, because tensors on that device have no
    values.
    """
    require_trainable(asked.model)
    with tempfile.TemporaryDirectory() as folder:
        material = read_material(asked, Run(Path(folder)), None, parts, ALONE, say)
    settings = material.settings
    try:
        return Deferred(lambda: material.task.head(parts.build(settings.model), settings)).model
    except (RuntimeError, NotImplementedError) as error:  # from a tensor without values
        raise ValueError(
            "--dry-run with training.parallel fsdp builds the model without values, but its builder reads "
            f"them ({shortened(str(error))}); use --dry-run with training.parallel ddp"
        ) from error


def require_trainable(model: ModelConfig) -> None:
    """Raise `ValueError` if the model's special ids differ from those of this package's tokenizers."""
    ids = model.special_ids
    wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    require(
        ids == wanted, f"model.pad_id, bos_id, eos_id, unk_id are {ids}; the tokenizer's ids are {wanted}"
    )
