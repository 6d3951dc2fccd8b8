"""The built-in tasks, by the names used in settings; the file `NAME.py` in this folder defines task `NAME`.

This file imports nothing from the package, so that settings can be checked without importing torch.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

TaskName = Literal[
    "translation", "language_model", "masked_language_model", "classification", "sentence_embedding"
]


class TaskEntry(NamedTuple):
    """The kind of model that a task trains, the name of the task's class, and its validation metrics.

    `name` is the name of a class in the task's file in this folder, or has the form `MODULE:CLASS` if the
    class is in another module.
    """

    kind: str
    name: str
    metrics: tuple[str, ...]


TASKS: dict[str, TaskEntry] = {
    "translation": TaskEntry(
        "encoder_decoder", "TranslationTask", ("loss", "perplexity", "bleu", "exact_match")
    ),
    "language_model": TaskEntry("decoder_only", "LanguageModelTask", ("loss", "perplexity", "bits_per_byte")),
    "masked_language_model": TaskEntry(
        "encoder_only", "MaskedLanguageModelTask", ("loss", "perplexity", "accuracy")
    ),
    "classification": TaskEntry("encoder_only", "ClassificationTask", ("loss", "accuracy")),
    "sentence_embedding": TaskEntry("encoder_only", "SentenceEmbeddingTask", ("loss", "p@1", "p@1_reversed")),
}


def is_custom(task: str) -> bool:
    """Whether this is the name of a custom task, such as `my_module:MyTask`."""
    return ":" in task


def tasks_of_kind(kind: str) -> Iterator[str]:
    """The tasks that a kind of model can be trained for; the first is the default."""
    return (name for name, entry in TASKS.items() if entry.kind == kind)
