"""Marian's tokenizer: one SentencePiece model for each language and one vocabulary for both."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from transformer.data.text import text_list
from transformer.data.tokenizers.protocol import UNK_ID
from transformer.files import read_bounded, whole_folder, write

LARGEST_FILE = 2**28
"""Bytes of each of its files; a vocabulary of a million pieces has a tenth of that."""
SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocabulary.json"


class MarianTokenizer:
    """Source lines are split by one SentencePiece model, target lines by another.

    `pieces[id]` is the vocabulary in this project's order: the special tokens first, with the ids of
    `ModelConfig`, then all others in Marian's order. `marian_ids[id]` is Marian's id of the same token.
    Marian has no BOS, so BOS maps to the token that Marian's decoder starts with.
    """

    keeps_lines = False

    def __init__(
        self, source: bytes, target: bytes, pieces: Sequence[str], marian_ids: Sequence[int]
    ) -> None:
        self.models = {SOURCE: source, TARGET: target}
        self.source, self.target = (read_model(name, model) for name, model in self.models.items())
        self.pieces = list(pieces)
        self.marian_ids = list(marian_ids)
        if len(self.pieces) <= UNK_ID or len(self.pieces) != len(self.marian_ids):
            raise ValueError(f"{VOCABULARY} does not hold the special tokens and an id for each piece")
        # pad, bos and eos are control tokens: no text of a line is ever encoded as one of them
        self.id_of = {piece: number for number, piece in enumerate(self.pieces) if number >= UNK_ID}
        hashes = [hashlib.sha256(content).hexdigest() for content in self.files().values()]
        self.digest: str = hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each source line, without EOS; a piece that the vocabulary lacks becomes `unk`."""
        return self.ids(self.source, lines)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each target line, without BOS and EOS."""
        return self.ids(self.target, lines)

    def ids(self, model: Any, lines: Sequence[str]) -> list[list[int]]:
        split = [split_language_code(line) for line in text_list(lines)]
        encoded = model.encode([text for _, text in split], out_type=str)
        return [
            [self.id_of.get(piece, UNK_ID) for piece in (*code, *pieces)]
            for (code, _), pieces in zip(split, encoded, strict=True)
        ]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The target text of each row, without its special ids."""
        rows = [[self.pieces[number] for number in row if number > UNK_ID] for row in ids]
        return [self.target.decode_pieces(pieces).replace("▁", " ").strip() for pieces in rows]

    def files(self) -> dict[str, bytes]:
        vocabulary = {"pieces": self.pieces, "marian_ids": self.marian_ids}
        return {**self.models, VOCABULARY: json.dumps(vocabulary, ensure_ascii=False, indent=0).encode()}

    def save(self, path: str | Path) -> None:
        """Write the folder `path`, or replace it."""
        with whole_folder(Path(path), replace=True) as folder:
            for name, content in self.files().items():
                write(folder / name, content)


def split_language_code(line: str) -> tuple[list[str], str]:
    """`>>fr<<` at the start names the target language of a multilingual model; it is one token."""
    end = line.find("<<")
    if not line.startswith(">>") or end == -1:
        return [], line
    return [line[: end + 2]], line[end + 2 :]


def read_model(name: str, content: bytes) -> Any:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content)
    except RuntimeError:
        raise ValueError(f"{name} is not a SentencePiece model, or a damaged one") from None
    return processor


def load_marian_tokenizer(folder: Path) -> MarianTokenizer:
    """Load what `save` wrote; `ValueError` if it is something else."""
    names = (SOURCE, TARGET, VOCABULARY)
    source, target, content = (read_bounded(folder / name, LARGEST_FILE) for name in names)
    try:
        vocabulary = json.loads(content)
        pieces, marian_ids = vocabulary["pieces"], vocabulary["marian_ids"]
        is_valid = all(type(piece) is str for piece in pieces) and all(type(id_) is int for id_ in marian_ids)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{VOCABULARY} is not a vocabulary of this project, or a damaged one")
    return MarianTokenizer(source, target, pieces, marian_ids)
