"""The interface of a task, and the code that all tasks share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from torch import nn

from transformer.checkpoint.pretrained import Pretrained
from transformer.config import Settings
from transformer.data.epochs import EpochBatches
from transformer.data.text import CorpusError
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.evaluation.scored import Scored
from transformer.tasks.registry import TASKS
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Objective
from transformer.training.report import SAMPLES, labelled

Evaluate = Callable[[nn.Module, Group], Mapping[str, Any]]
"""A validation function. It returns a model's metrics; the processes of the group share the work.

The metrics may include the key `samples`. Its value is a list of dictionaries that map labels, such as
`source` and `reference`, to strings; training prints and logs these strings.
"""


@dataclass(frozen=True)
class TokenizedText:
    """The training data, tokenized and in batches."""

    batches: EpochBatches[Any]
    counts: dict[str, Any]
    """Values for the log, such as how many sentences were read and dropped, or the BLEU signature."""
    summary: str
    """A few words for the user with the most important values of `counts`."""


class Report(NamedTuple):
    """The scores of a trained model, as values and as the text that `transformer evaluate` prints."""

    values: dict[str, Any]
    text: str
    scored: Sequence[Scored] = ()
    """The outputs that were scored, with their sources and references, if the task outputs sentences."""


class Task(ABC):
    """One task: its data, loss, validation and scores. Creating an instance reads the training text."""

    kind: ClassVar[str | None] = None
    """The kind of model that the task trains, a value of `model.kind`; `None` for any kind."""
    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    """The names of the validation metrics; `training.best_metric` is one of them."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset(("loss", "perplexity", "bits_per_byte"))
    """The metrics for which a lower value is better. For all others, a higher value is better."""
    settings: Settings
    """The settings that the task was created with, and values that the task adds, such as the class names."""
    score_options: ClassVar[frozenset[str]] = frozenset()
    """The options of `transformer evaluate` for this task; all except `output` are passed to `score`."""

    @abstractmethod
    def __init__(self, settings: Settings) -> None: ...

    @abstractmethod
    def train_tokenizer(self) -> Tokenizer:
        """Train a tokenizer, of the type that the settings name, on the training text."""

    @abstractmethod
    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        """Return the training data in batches; `settings` already contain the tokenizer's vocabulary size."""

    @staticmethod
    @abstractmethod
    def objective(settings: Settings) -> Objective:
        """Return the training loss."""

    @staticmethod
    def head(model: nn.Module, settings: Settings) -> nn.Module:  # noqa: ARG004
        """Add the task's head to `model`. Only tasks for encoder-only models override this method."""
        return model

    @classmethod
    @abstractmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> Evaluate:
        """Return a function that validates a model on the corpus `name` and returns the `metrics`."""

    @classmethod
    def score(cls, trained: Pretrained, data: str) -> Report:
        """Score a trained model on the corpus `data`. By default, the scores are the validation metrics."""
        model, tokenizer, settings = trained
        values = dict(cls.validation(data, tokenizer, settings)(model, ALONE))
        values.pop(SAMPLES, None)
        rows = labelled(values).items()
        return Report(values, "\n".join(f"{name:<13}  {value}" for name, value in rows))


def task_class(name: str) -> type[Task]:
    """Import the class of the task with this name in the registry."""
    module, _, class_name = TASKS[name].name.rpartition(":")
    found: type[Task] = getattr(import_module(module or f"transformer.tasks.{name}"), class_name)
    return found


def validation_of(task: Task, tokenizer: Tokenizer, settings: Settings) -> Evaluate | None:
    """The validation function for the corpus `data.valid`, or None if `data.valid` is null.

    Error messages name the corpus.
    """
    name = settings.data.valid
    if name is None:
        return None
    try:
        return task.validation(name, tokenizer, settings)
    except ValueError as error:
        named = "" if name in str(error) else f" {name}"
        raise CorpusError(f"the validation text (data.valid){named}: {error}") from error
