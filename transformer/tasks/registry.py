"""The built-in tasks, by the names used in settings; the file `NAME.py` in this folder defines task `NAME`.

This file imports nothing from the package, so that settings can be checked without importing torch.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

TaskName = Literal[
    "translation", "language_model", "masked_language_model", "classification", "sentence_embedding"
]


class Use(NamedTuple):
    """How a model trained for a task is used."""

    loader: str
    """The class that loads a run, `MODULE:CLASS`."""
    command: str
    """The command that uses a run, with `{run}` where the option `--run` goes."""
    reads_lines: bool = True
    """Whether the command reads lines from standard input."""
    hub_tag: str | None = None
    """The Hugging Face Hub's name for the task."""
    inspection_options: tuple[str, ...] = ()
    """Which of the options `beam_size`, `alpha` and `max_length` `inspect`, `explain` and `plot` take."""


class TaskEntry(NamedTuple):
    """What the package must know about a task before it imports the task's class."""

    kind: str
    """The kind of model that the task trains."""
    name: str
    """The name of a class in the task's file in this folder, or `MODULE:CLASS` for a class elsewhere."""
    metrics: tuple[str, ...]
    """The validation metrics."""
    use: Use | None = None
    """None if the package has no command for the trained models except `evaluate`."""


TASKS: dict[str, TaskEntry] = {
    "translation": TaskEntry(
        "encoder_decoder",
        "TranslationTask",
        ("loss", "perplexity", "bleu", "exact_match"),
        Use(
            "transformer.decoding.translator:Translator",
            "translate {run}",
            hub_tag="translation",
            inspection_options=("beam_size", "alpha"),
        ),
    ),
    "language_model": TaskEntry(
        "decoder_only",
        "LanguageModelTask",
        ("loss", "perplexity", "bits_per_byte"),
        Use(
            "transformer.decoding.generator:TextGenerator",
            "generate {run} --prompt TEXT",
            reads_lines=False,
            hub_tag="text-generation",
            inspection_options=("beam_size", "alpha", "max_length"),
        ),
    ),
    "masked_language_model": TaskEntry(
        "encoder_only",
        "MaskedLanguageModelTask",
        ("loss", "perplexity", "accuracy"),
        Use("transformer.decoding.predictors:MaskFiller", "fill-mask {run}", hub_tag="fill-mask"),
    ),
    "classification": TaskEntry(
        "encoder_only",
        "ClassificationTask",
        ("loss", "accuracy"),
        Use("transformer.decoding.predictors:Classifier", "classify {run}", hub_tag="text-classification"),
    ),
    "sentence_embedding": TaskEntry(
        "encoder_only",
        "SentenceEmbeddingTask",
        ("loss", "p@1", "p@1_reversed"),
        Use(
            "transformer.decoding.predictors:Embedder",
            "embed {run} --output FILE.npy",
            hub_tag="sentence-similarity",
        ),
    ),
}


def use_of(task: str) -> Use | None:
    """How a model trained for `task` is used; None if it is a custom task or has no command."""
    return TASKS[task].use if task in TASKS else None


def is_custom(task: str) -> bool:
    """Whether this is the name of a custom task, such as `my_module:MyTask`."""
    return ":" in task


def tasks_of_kind(kind: str) -> Iterator[str]:
    """The tasks that a kind of model can be trained for; the first is the default."""
    return (name for name, entry in TASKS.items() if entry.kind == kind)
