"""Marian's tokenizer: one SentencePiece model per language, and a joint vocabulary or one per language."""

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
"""The maximum size of a tokenizer's file, in bytes; a million pieces need a tenth of this size."""
SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocabulary.json"


class MarianTokenizer:
    """Source lines are split by one SentencePiece model, target lines by another.

    `pieces` lists the vocabulary in the order of our ids: the special tokens first, with the ids of
    `ModelConfig`, then all others in Marian's order. `marian_ids[id]` is Marian's id of the same token, or
    None if Marian has no such token. For BOS, the entry is the id of Marian's decoder start token.

    If Marian has one vocabulary per language, `marian_ids` are the ids in the target vocabulary, and
    `source_ids` are the ids in the source vocabulary. A piece that is in only one of the two vocabularies is
    never produced by encoding the other language.
    """

    keeps_lines = False
    is_threaded = True

    def __init__(
        self,
        source: bytes,
        target: bytes,
        pieces: Sequence[str],
        marian_ids: Sequence[int | None],
        *,
        source_ids: Sequence[int | None] | None = None,
    ) -> None:
        self.models = {SOURCE: source, TARGET: target}
        self.source, self.target = (read_model(name, model) for name, model in self.models.items())
        self.pieces = list(pieces)
        self.marian_ids = list(marian_ids)
        self.is_joint = source_ids is None
        self.source_ids = self.marian_ids if source_ids is None else list(source_ids)
        if len(self.pieces) <= UNK_ID or {len(self.marian_ids), len(self.source_ids)} != {len(self.pieces)}:
            raise ValueError(f"{VOCABULARY} does not hold the special tokens and an id for each piece")
        self.source_id_of, self.target_id_of = (
            ids_of_text(self.pieces, ids) for ids in (self.source_ids, self.marian_ids)
        )
        hashes = [hashlib.sha256(content).hexdigest() for content in self.files().values()]
        self.digest: str = hashlib.sha256("".join(hashes).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each source line, without EOS; a piece outside the vocabulary becomes `unk`."""
        return encode(lines, self.source, self.source_id_of)

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each target line, without BOS and EOS."""
        return encode(lines, self.target, self.target_id_of)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The target text of each row, without its special ids."""
        rows = [[self.pieces[number] for number in row if number > UNK_ID] for row in ids]
        return [self.target.decode_pieces(pieces).replace("▁", " ").strip() for pieces in rows]

    def files(self) -> dict[str, bytes]:
        vocabulary: dict[str, Any] = {"pieces": self.pieces, "marian_ids": self.marian_ids}
        if not self.is_joint:
            vocabulary["source_ids"] = self.source_ids
        return {**self.models, VOCABULARY: json.dumps(vocabulary, ensure_ascii=False, indent=0).encode()}

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to the folder `path`; an existing folder is replaced."""
        with whole_folder(Path(path), replace=True) as folder:
            for name, content in self.files().items():
                write(folder / name, content)


def ids_of_text(pieces: list[str], marian_ids: list[int | None]) -> dict[str, int]:
    """Map the pieces of one language to our ids, except pad, BOS and EOS, which never occur in text."""
    numbered = enumerate(zip(pieces, marian_ids, strict=True))
    return {piece: ours for ours, (piece, theirs) in numbered if ours >= UNK_ID and theirs is not None}


def encode(lines: Sequence[str], model: Any, id_of: dict[str, int]) -> list[list[int]]:
    split = [split_language_code(line) for line in text_list(lines)]
    encoded = model.encode([text for _, text in split], out_type=str)
    return [
        [id_of.get(piece, UNK_ID) for piece in (*code, *pieces)]
        for (code, _), pieces in zip(split, encoded, strict=True)
    ]


def split_language_code(line: str) -> tuple[list[str], str]:
    """Split off a code such as `>>fr<<` at the start of a line, so that it becomes one token.

    The code tells a multilingual model the target language.
    """
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
    """Load the tokenizer that `save` wrote to `folder`.

    Raises `ValueError` if a file in the folder is not valid.
    """
    names = (SOURCE, TARGET, VOCABULARY)
    source, target, content = (read_bounded(folder / name, LARGEST_FILE) for name in names)
    try:
        vocabulary = json.loads(content)
        pieces, marian_ids = vocabulary["pieces"], vocabulary["marian_ids"]
        source_ids = vocabulary.get("source_ids")  # only present if Marian has two vocabularies
        is_valid = all(type(piece) is str for piece in pieces)
        for ids in (marian_ids, source_ids or []):
            is_valid &= all(number is None or type(number) is int for number in ids)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise ValueError(f"{VOCABULARY} is not a vocabulary of this project, or a damaged one")
    return MarianTokenizer(source, target, pieces, marian_ids, source_ids=source_ids)
