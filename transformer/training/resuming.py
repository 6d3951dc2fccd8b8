"""Checks that the settings match those of the run to resume."""

from collections.abc import Collection
from dataclasses import fields, replace

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.config import Settings, differing, setting_names

BEST_DEPENDS_ON = ("data.valid", "data.bleu_tokenizer", "training.best_metric")
"""Settings that affect only early stopping and the choice of the best checkpoint, not the updates."""


def with_recorded(now: Settings, before: Settings, metrics: Collection[str]) -> tuple[Settings, Settings]:
    """Return `now` and `before`, with `data.bleu_tokenizer` set to the tokenizer that the earlier run used.

    If `now` already names a tokenizer, `now` keeps it. If BLEU is not among the task's `metrics`, nothing is
    changed. The default tokenizer depends on which packages are installed, so a resumed run must use the
    recorded tokenizer. Runs that are older than the setting `data.bleu_tokenizer` used 13a for every
    language.
    """
    if "bleu" not in metrics:
        return now, before
    used = before.data.bleu_tokenizer or "13a"
    asked = now.data.bleu_tokenizer or used
    return (
        replace(now, data=replace(now.data, bleu_tokenizer=asked)),
        replace(before, data=replace(before.data, bleu_tokenizer=used)),
    )


def completed(now: Settings, before: Settings) -> Settings:
    """Return `now`, but copy from `before` the values that the task and the tokenizer determine."""
    unset = [item.name for item in fields(now.data) if getattr(now.data, item.name) is None]
    sizes = before.model.vocab_size, before.model.source_vocab_size
    return replace(
        now,
        model=replace(now.model, vocab_size=sizes[0], source_vocab_size=sizes[1]),
        data=replace(now.data, **{name: getattr(before.data, name) for name in unset}),
    )


def require_same(before: Settings, now: Settings, run: Run) -> None:
    """Raise `CheckpointError` if the settings differ in the model, the text or the order of the batches.

    Other settings, such as the length of training and the device, may differ.
    """
    fixed = [name for name in setting_names() if name.startswith(("model.", "data."))]
    fixed.remove("data.test")  # not used in training
    fixed += ["seed", "training.tokens_per_batch", "training.best_metric"]
    for name, old_value, new_value in differing(before, now, fixed):
        why = ", and it decides which checkpoint is best" if name in BEST_DEPENDS_ON else ""
        raise CheckpointError(
            f"{run.path} was trained with {name} {old_value!r}, not {new_value!r}{why}; "
            "resume with its own config.yaml, or choose another --output"
        )
    if before.trained_task != now.trained_task:
        raise CheckpointError(f"{run.path} was trained for {before.trained_task}, not {now.trained_task}")
