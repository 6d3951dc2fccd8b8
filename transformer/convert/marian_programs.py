"""The two programs that train and run Marian models, and the differences between them."""

from dataclasses import replace
from typing import Literal, NamedTuple

from transformer.config import ModelConfig

ProgramName = Literal["marian", "transformers"]


class Program(NamedTuple):
    """The values of two settings that make our model compute the same function as this program."""

    positions: Literal["sinusoidal", "tensor2tensor"]
    norm_epsilon: float

    def applied_to(self, config: ModelConfig) -> ModelConfig:
        return replace(config, **self._asdict())


PROGRAMS: dict[ProgramName, Program] = {
    "marian": Program("tensor2tensor", 1e-6),
    "transformers": Program("sinusoidal", 1e-5),  # PyTorch's default ε; MarianConfig has no setting for it
}
