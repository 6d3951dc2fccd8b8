"""The settings: one tree of frozen dataclasses whose defaults are the paper's base model.

YAML files and the command line fill this tree (`settings/files.py`); a run's folder keeps it, resolved, as
`config.yaml`. The text under a field is its `--help`.
"""

from transformer.config.data import DataConfig
from transformer.config.decoding import DecodingConfig
from transformer.config.model import Kind, ModelConfig
from transformer.config.settings import TASKS_OF_KIND, Precision, Settings, TaskName, setting_names
from transformer.config.training import TrainingConfig

__all__ = [
    "TASKS_OF_KIND",
    "DataConfig",
    "DecodingConfig",
    "Kind",
    "ModelConfig",
    "Precision",
    "Settings",
    "TaskName",
    "TrainingConfig",
    "setting_names",
]
