"""Which settings a run may be continued with."""

from dataclasses import replace

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.config import Settings, differing, setting_names
from transformer.tasks.registry import TASKS

JUDGES = ("data.valid", "data.bleu_tokenizer", "training.best_metric")
"""Settings that change no update, but what `best` and `training.patience` compare."""


def with_recorded(now: Settings, before: Settings) -> tuple[Settings, Settings]:
    """Both settings with the tokenizer of BLEU that the run has used, unless `now` asks for another.

    Which one is chosen depends on what is installed, so that the choice is taken over, not made anew. Runs
    from before `data.bleu_tokenizer` existed have used 13a for every language.
    """
    if "bleu" not in TASKS[before.trained_task].metrics:
        return now, before
    used = before.data.bleu_tokenizer or "13a"
    asked = now.data.bleu_tokenizer or used
    return (
        replace(now, data=replace(now.data, bleu_tokenizer=asked)),
        replace(before, data=replace(before.data, bleu_tokenizer=used)),
    )


def require_same(before: Settings, now: Settings, run: Run) -> None:
    """Refuse to go on with another model, text or order; how long and where to train may change."""
    fixed = [name for name in setting_names() if name.startswith(("model.", "data."))]
    fixed.remove("data.test")  # training does not read it
    fixed += ["seed", "training.tokens_per_batch", "training.best_metric"]
    for name, old_value, new_value in differing(before, now, fixed):
        why = ", and which checkpoint is the best was judged by it" if name in JUDGES else ""
        raise CheckpointError(
            f"{run.path} was trained with {name} {old_value!r}, not {new_value!r}{why}; "
            "resume with its own config.yaml, or choose another --output"
        )
    if before.trained_task != now.trained_task:
        raise CheckpointError(f"{run.path} was trained for {before.trained_task}, not {now.trained_task}")
