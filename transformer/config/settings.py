"""The whole tree."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from transformer.config.data import DataConfig
from transformer.config.decoding import DecodingConfig
from transformer.config.model import ModelConfig
from transformer.config.training import TrainingConfig
from transformer.requirements import require, require_choice, require_device

Precision = Literal["auto", "float32", "bfloat16"]

TaskName = Literal[
    "translation", "language_model", "masked_language_model", "classification", "sentence_embedding"
]

TASKS_OF_KIND: dict[str, tuple[TaskName, ...]] = {
    "encoder_decoder": ("translation",),
    "decoder_only": ("language_model",),
    "encoder_only": ("masked_language_model", "classification", "sentence_embedding"),
}
"""What each kind of model can be trained to do; the first is its default."""


@dataclass(frozen=True)
class Settings:
    """Everything a run is made from."""

    output: str = "runs/transformer"
    """The run's folder."""
    seed: int = 1
    """Seed of the initial parameters, of dropout and of the order of the batches."""
    device: str = "auto"
    """auto (a CUDA GPU if there is one), cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products; auto: bfloat16 where the hardware is fast at it."""
    task: TaskName | None = None
    """What the model is trained to do; null: translation, language_model or masked_language_model, by
    model.kind. An encoder_only model can also be trained for classification and sentence_embedding."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        require(self.seed >= 0, f"seed is {self.seed}; it must be 0 or more")
        require_device(self.device)
        tasks = TASKS_OF_KIND[self.model.kind]
        require_choice(f"model.kind is {self.model.kind}, and task", self.trained_task, tasks)
        require(
            self.training.start_from is None or self.model.kind == "encoder_only",
            f"training.start_from is for model.kind encoder_only, not {self.model.kind}",
        )
        require(
            self.data.max_tokens <= self.model.max_positions,
            f"data.max_tokens {self.data.max_tokens} is more than model.max_positions "
            f"{self.model.max_positions}; lower the first or raise the second",
        )

    @property
    def trained_task(self) -> TaskName:
        """`task`, or the one that goes without saying."""
        return self.task or TASKS_OF_KIND[self.model.kind][0]


def setting_names(settings: Any = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted name of every leaf of the tree, in order."""
    for item in fields(settings):
        if isinstance(item.default_factory, type):
            yield from setting_names(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name
