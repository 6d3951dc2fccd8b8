"""Two vocabularies: one tokenizer for the source and another for the target."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from transformer.data.tokenizers.protocol import Tokenizer
from transformer.files import whole_folder

SOURCE, TARGET = "source", "target"
"""The names under which `save` writes the two tokenizers into its folder."""


class PairTokenizer:
    """Two tokenizers: `encode` uses the source tokenizer; `decode` and `pieces` use the target tokenizer."""

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self.source = source
        self.target = target
        self.keeps_lines = target.keeps_lines
        self.is_threaded = all(getattr(side, "is_threaded", False) for side in (source, target))
        self.digest: str = hashlib.sha256(f"{source.digest} {target.digest}".encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self.target.vocab_size

    @property
    def pieces(self) -> list[str]:
        return self.target.pieces

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        return self.source.encode(lines)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        return self.target.encode_target(lines)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self.target.decode(ids)

    def save(self, path: str | Path) -> None:
        """Write both tokenizers to the folder `path`; an existing folder is replaced."""
        with whole_folder(Path(path), replace=True) as folder:
            self.source.save(folder / SOURCE)
            self.target.save(folder / TARGET)
