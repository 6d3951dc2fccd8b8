"""What every tokenizer offers, and the ids of the special tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from transformer.config import ModelConfig

PAD_ID = ModelConfig.pad_id
BOS_ID = ModelConfig.bos_id
EOS_ID = ModelConfig.eos_id
UNK_ID = ModelConfig.unk_id
SPECIAL_IDS = frozenset((PAD_ID, BOS_ID, EOS_ID, UNK_ID))


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; a run's folder keeps one, and its checkpoints its `digest`."""

    digest: str
    keeps_lines: bool
    """Whether line breaks are tokens."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def pieces(self) -> list[str]:
        """What each id stands for, as other programs name their tokens."""

    def encode(self, lines: Sequence[str]) -> list[list[int]]: ...
    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """`encode` for the language translated into, which Marian cuts by a model of its own."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]: ...
    def save(self, path: str | Path) -> None: ...
