"""The settings: one tree of frozen dataclasses whose defaults are the paper's base model.

YAML files and the command line fill this tree (`config/files.py`), and a run's folder records the complete
tree in `config.yaml`. The docstring of a field is its `--help` text.
"""

from transformer.config.data import BleuTokenizer, DataConfig
from transformer.config.decoding import DecodingConfig
from transformer.config.model import Kind, ModelConfig
from transformer.config.settings import (
    INFERENCE_PRECISIONS,
    InferencePrecision,
    Precision,
    Settings,
    differing,
    setting_names,
)
from transformer.config.training import TrainingConfig

__all__ = [
    "INFERENCE_PRECISIONS",
    "BleuTokenizer",
    "DataConfig",
    "DecodingConfig",
    "InferencePrecision",
    "Kind",
    "ModelConfig",
    "Precision",
    "Settings",
    "TrainingConfig",
    "differing",
    "setting_names",
]
