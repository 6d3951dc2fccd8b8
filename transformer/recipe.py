"""From settings to a trained model: text, tokenizer, batches, model and loop, put together."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from transformer.checkpoint import CheckpointError, Run, read_manifest
from transformer.config import ModelConfig, Settings, require
from transformer.data.batches import TokenBatches, tokenize_pairs
from transformer.data.corpus import load_parallel
from transformer.data.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    SentencePieceTokenizer,
    load_tokenizer,
    train_tokenizer,
)
from transformer.decoding.translator import Translator
from transformer.evaluation.validation import Validation
from transformer.hardware import choose_device, choose_precision
from transformer.model.build import build_model
from transformer.settings.files import load_settings, save_settings
from transformer.training.loop import Log, fit, make_optimizer
from transformer.training.state import TrainingState

if TYPE_CHECKING:
    import datasets


def train(
    settings: Settings,
    *,
    build: Callable[[ModelConfig], nn.Module] = build_model,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train the model that `settings` describe; returns the run's folder, `settings.output`.

    `build` makes the model; a researcher passes an own one. With `resume` an unfinished run goes on from
    its last checkpoint, to the bit on a CPU, and a run that does not exist yet starts. `say` is told in a
    line what is being done. `ValueError` if the folder holds a run and `resume` is not set, or another one.
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
    table = read_table(settings, settings.data.train)
    run.path.mkdir(parents=True, exist_ok=True)
    if last is None:
        say("training the tokenizer")
        make_tokenizer(table, settings).save(run.tokenizer)
    tokenizer = load_tokenizer(run.tokenizer)
    settings = replace(settings, model=replace(settings.model, vocab_size=tokenizer.vocab_size))
    if last is not None:
        require_same(load_settings(run.config), settings, run)
    save_settings(settings, run.config)

    say("tokenizing")
    tokenized, counts = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
    tokens_per_batch = settings.training.tokens_per_batch
    batches = TokenBatches(tokenized, tokens_per_batch=tokens_per_batch, seed=settings.seed)
    torch.manual_seed(settings.seed)
    model = build(settings.model).to(device)
    state = TrainingState(model, make_optimizer(model, settings.training), batches)
    if last is not None:
        if read_manifest(last)["tokenizer"] != tokenizer.digest:
            raise CheckpointError(f"{run.tokenizer}: not the tokenizer that {last} was trained with")
        state.load(last)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped), "
        f"vocabulary {tokenizer.vocab_size:,}, {parameters:,} parameters, {precision} on {device}"
    )
    log = Log(run)
    log("data", state.step, **asdict(counts), parameters=parameters, precision=precision, device=str(device))
    fit(
        state,
        settings.training,
        run=run,
        log=log,
        d_model=settings.model.d_model,
        device=device,
        precision=precision,
        tokenizer_hash=tokenizer.digest,
        evaluate=make_validation(tokenizer, settings),
    )
    return run.path


def read_table(settings: Settings, name: str) -> "datasets.Dataset":
    return load_parallel(name, settings.data.source, settings.data.target)


def make_tokenizer(table: "datasets.Dataset", settings: Settings) -> SentencePieceTokenizer:
    """One vocabulary for both languages, trained on both sides of the training text (§5.1)."""

    def lines() -> Iterator[str]:
        for part in table.iter(batch_size=10_000):
            yield from part["source"]
            yield from part["target"]

    return train_tokenizer(
        lines(), vocab_size=settings.data.vocab_size, normalization=settings.data.normalization
    )


def make_validation(tokenizer: SentencePieceTokenizer, settings: Settings) -> Validation | None:
    """Loss on the validation text, and a sample of it, evenly spread, to translate."""
    if settings.data.valid is None:
        return None
    table = read_table(settings, settings.data.valid)
    tokenized, _ = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
    batches = TokenBatches(
        tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
    )
    size = min(settings.training.valid_sample, len(table))
    sample = table.select([number * len(table) // size for number in range(size)])
    return Validation(
        batches,
        list(sample["source"]),
        list(sample["target"]),
        lambda model: Translator(
            model, tokenizer, model_config=settings.model, decoding=settings.decoding, warn=lambda _: None
        ),
    )


def require_trainable(model: ModelConfig) -> None:
    """Refuse what this recipe cannot train before anything is read or written."""
    require(
        model.kind == "encoder_decoder", f"model.kind is {model.kind!r}; only encoder_decoder can be trained"
    )
    ids = (model.pad_id, model.bos_id, model.eos_id, model.unk_id)
    wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    require(
        ids == wanted, f"model.pad_id, bos_id, eos_id, unk_id are {ids}; the tokenizer's ids are {wanted}"
    )


def require_same(before: Settings, now: Settings, run: Run) -> None:
    """Refuse to go on with another model, text or order; how long and where to train may change."""
    for section in ("model", "data"):
        old, new = asdict(getattr(before, section)), asdict(getattr(now, section))
        for name, value in new.items():
            if value != old[name]:
                raise CheckpointError(
                    f"{run.path} was trained with {section}.{name} {old[name]!r}, not {value!r}; "
                    "resume with its own config.yaml, or choose another --output"
                )
    if before.seed != now.seed:
        raise CheckpointError(f"{run.path} was trained with seed {before.seed}, not {now.seed}")
