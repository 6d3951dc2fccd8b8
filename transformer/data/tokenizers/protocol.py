"""The interface of every tokenizer, and the ids of the special tokens."""

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
    """Converts text to ids and back.

    The tokenizer is saved in a run's folder, and its `digest` in each checkpoint.
    """

    keeps_lines: bool
    """Whether line breaks are tokens."""

    @property
    def digest(self) -> str:
        """Identifies the tokenizer in checkpoints and in the cache of tokenized text."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def pieces(self) -> list[str]:
        """All tokens by id, written as in a vocabulary file: SentencePiece writes ▁ for a space."""

    def encode(self, lines: Sequence[str]) -> list[list[int]]: ...
    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """Like `encode`, for the target language: Marian has a separate SentencePiece model for it."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]: ...
    def save(self, path: str | Path) -> None: ...
