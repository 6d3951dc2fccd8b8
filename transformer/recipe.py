"""From settings to a trained model: task, tokenizer, batches, model and loop, put together."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import reduce
from operator import getitem
from pathlib import Path

import torch
from torch import nn

from transformer.checkpoint import CheckpointError, Run, find_run, load_model, read_manifest
from transformer.config import ModelConfig, Settings, TaskName, setting_names
from transformer.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID, load_tokenizer
from transformer.hardware import choose_device, choose_precision
from transformer.model.build import build_model
from transformer.model.heads import with_head
from transformer.requirements import require
from transformer.settings.files import load_settings, save_settings
from transformer.tasks.classification import Classification
from transformer.tasks.language_model import LanguageModel
from transformer.tasks.masked_language_model import MaskedLanguageModelling
from transformer.tasks.sentence_embedding import SentenceEmbedding
from transformer.tasks.task import Task
from transformer.tasks.translation import Translation
from transformer.training.loop import Log, fit, make_optimizer
from transformer.training.state import TrainingState

TASKS: dict[TaskName, Callable[[Settings], Task]] = {
    "translation": Translation,
    "language_model": LanguageModel,
    "masked_language_model": MaskedLanguageModelling,
    "classification": Classification,
    "sentence_embedding": SentenceEmbedding,
}


def train(
    settings: Settings,
    *,
    build: Callable[[ModelConfig], nn.Module] = build_model,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train the model that `settings` describe; returns the run's folder, `settings.output`.

    `build` makes the model, of an encoder-only one all but the head; a researcher passes an own one. With
    `resume` an unfinished run goes on from its last checkpoint, to the bit on a CPU, and a run that does not
    exist yet starts. `say` is told in a line what is being done. `ValueError` if the folder holds a run and
    `resume` is not set, or if it holds another one.
    """
    require_trainable(settings.model)
    run = Run(Path(settings.output))
    last = run.marked("last")
    if last is not None and not resume:
        raise ValueError(
            f"{run.path} holds a run already; --resume continues it, --output names another folder"
        )
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    say(f"reading {settings.data.train}")
    task = TASKS[settings.trained_task](settings)
    start_from = settings.training.start_from if last is None else None
    start = None if start_from is None else find_run(start_from)
    if last is None:
        say("making the tokenizer")
        made = task.train_tokenizer() if start is None else load_tokenizer(start[0].tokenizer)
        run.path.mkdir(parents=True, exist_ok=True)
        made.save(run.tokenizer)
    tokenizer = load_tokenizer(run.tokenizer)
    settings = replace(task.settings, model=replace(settings.model, vocab_size=tokenizer.vocab_size))
    if last is not None:
        require_same(load_settings(run.config), settings, run)
    save_settings(settings, run.config)

    say("tokenizing")
    prepared = task.prepare(tokenizer, settings)
    model = make_model(settings, build, None if start is None else start[1]).to(device)
    state = TrainingState(model, make_optimizer(model, settings.training), prepared.batches)
    if last is not None:
        if read_manifest(last)["tokenizer"] != tokenizer.digest:
            raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {last} was trained with")
        state.load(last)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"{prepared.summary}, vocabulary {tokenizer.vocab_size:,}, {parameters:,} parameters, "
        f"{precision} on {device}"
    )
    log = Log(run)
    log("data", state.step, **prepared.counts, parameters=parameters, precision=precision, device=str(device))
    fit(
        state,
        settings.training,
        run=run,
        log=log,
        d_model=settings.model.d_model,
        device=device,
        precision=precision,
        tokenizer_hash=tokenizer.digest,
        evaluate=prepared.evaluate,
        objective=prepared.objective,
    )
    return run.path


def make_model(
    settings: Settings, build: Callable[[ModelConfig], nn.Module], start: Path | None
) -> nn.Module:
    """The model with its task's head, initialised by the seed; its encoder from the checkpoint `start`."""
    torch.manual_seed(settings.seed)
    model = with_head(build(settings.model), settings)
    if start is not None:
        load_model(model.encoder, start, part="encoder.")  # type: ignore[arg-type]
    return model


def require_trainable(model: ModelConfig) -> None:
    """Refuse what this recipe cannot train before anything is read or written."""
    ids = (model.pad_id, model.bos_id, model.eos_id, model.unk_id)
    wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    require(
        ids == wanted, f"model.pad_id, bos_id, eos_id, unk_id are {ids}; the tokenizer's ids are {wanted}"
    )


def require_same(before: Settings, now: Settings, run: Run) -> None:
    """Refuse to go on with another model, text or order; how long and where to train may change."""
    old, new = asdict(before), asdict(now)
    fixed = [name for name in setting_names() if name.startswith(("model.", "data."))]
    for name in (*fixed, "seed", "training.tokens_per_batch"):
        old_value, new_value = (reduce(getitem, name.split("."), tree) for tree in (old, new))
        if old_value != new_value:
            raise CheckpointError(
                f"{run.path} was trained with {name} {old_value!r}, not {new_value!r}; "
                "resume with its own config.yaml, or choose another --output"
            )
    if before.trained_task != now.trained_task:
        raise CheckpointError(f"{run.path} was trained for {before.trained_task}, not {now.trained_task}")
