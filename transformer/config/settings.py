"""The root of the tree of settings."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from operator import getitem
from typing import Any, Literal, get_args

from transformer.config.checks import require, require_choice, require_device, require_seed
from transformer.config.data import DataConfig
from transformer.config.decoding import DecodingConfig
from transformer.config.model import ModelConfig
from transformer.config.training import TrainingConfig
from transformer.tasks.registry import TASKS, TaskName, is_custom, tasks_of_kind

Precision = Literal["auto", "float32", "bfloat16", "float16"]
InferencePrecision = Precision | Literal["int8"]
INFERENCE_PRECISIONS = (*get_args(Precision), "int8")


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    output: str = "runs/transformer"
    """Folder of the run."""
    seed: int = 1
    """Seed of parameters, dropout and batch order."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, mps, xpu, xpu:N.
    auto: a CUDA GPU if there is one, otherwise the CPU. mps and xpu are untested so far; check your device
    with `transformer selftest --device NAME`."""
    precision: Precision = "auto"
    """Precision.
    The precision of matrix products. auto: bfloat16 if the hardware has it; float16 on an older GPU with
    tensor cores (V100 and T4); otherwise float32. float16 trains with dynamic loss scaling."""
    tf32: bool = False
    """TF32 for float32 products on a GPU.
    Whether a GPU may round the factors of float32 matrix products to 10 bits of precision instead of 23."""
    deterministic: bool = False
    """Bitwise equal results; slower on a GPU.
    Whether to use only algorithms that give the same result every time."""
    task: TaskName | str | None = None
    """What the model learns; null: chosen by model.kind.
    An encoder_decoder model learns translation, a decoder_only model language_model, and an encoder_only
    model masked_language_model (its default), classification or sentence_embedding. A custom task is given on
    the command line as MODULE:CLASS."""
    build: str | None = None
    """Your own model builder; null: none.
    A function that takes the ModelConfig (the settings model.*) and returns a module. The function is given
    on the command line as MODULE:FUNCTION."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        require(self.output != "", "output is empty; name the run's folder")
        require_choice("precision", self.precision, get_args(Precision))
        require_seed("seed", self.seed)
        require_device(self.device)
        if not is_custom(self.trained_task):  # a custom task is checked later, when its class is known
            require_task(self.trained_task, self.model.kind)
            metrics = TASKS[self.trained_task].metrics
            require_choice("training.best_metric", self.training.best_metric, metrics)
        require(
            self.training.best_metric not in ("bleu", "exact_match") or self.training.valid_sample > 0,
            f"training.best_metric {self.training.best_metric} needs training.valid_sample above 0",
        )
        require(
            self.training.patience is None or self.data.valid is not None,
            "training.patience counts validations, but data.valid is null",
        )
        require(
            self.training.model_size == "given" or self.training.start_from is None,
            "training.model_size is by_text, but training.start_from names a model with a size of its own; "
            "set training.model_size to given",
        )
        require(
            self.data.target_vocab_size is None or self.model.kind == "encoder_decoder",
            f"data.target_vocab_size is for translation, but model.kind is {self.model.kind}",
        )
        require(
            self.data.max_tokens <= self.model.max_positions,
            f"data.max_tokens {self.data.max_tokens} is more than model.max_positions "
            f"{self.model.max_positions}; lower the first or raise the second",
        )

    @property
    def trained_task(self) -> str:
        """The setting `task`, or the default task for the kind of model."""
        return self.task or next(tasks_of_kind(self.model.kind))


def require_task(task: str, kind: str) -> None:
    """Raise `ValueError` if the task does not exist or is for another kind of model than `kind`."""
    require_choice("task", task, tuple(TASKS))
    require(
        TASKS[task].kind == kind,
        f"task {task} is for model.kind {TASKS[task].kind}, and model.kind is {kind}; set model.kind to "
        f"{TASKS[task].kind}, or task to {' or '.join(tasks_of_kind(kind))}",
    )


def setting_names(settings: Any = Settings, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting, in the order of declaration."""
    for item in fields(settings):
        if isinstance(item.default_factory, type):
            yield from setting_names(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def differing(before: Settings, now: Settings, names: Iterable[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, old value, new value) for each of the named settings that differs."""
    old, new = asdict(before), asdict(now)
    for name in names:
        old_value, new_value = (reduce(getitem, name.split("."), tree) for tree in (old, new))
        if old_value != new_value:
            yield name, old_value, new_value
