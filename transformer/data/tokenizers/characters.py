"""A tokenizer whose tokens are single characters, including line breaks."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformer.data.text import text_list
from transformer.data.tokenizers.protocol import SPECIAL_IDS, UNK_ID
from transformer.files import write_whole

KIND = "characters"


class CharacterTokenizer:
    """Each character of the training text is a token; all other characters become `unk`."""

    keeps_lines = True

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.id_of = {character: number for number, character in enumerate(characters, len(SPECIAL_IDS))}
        self.digest: str = hashlib.sha256(self.serialized()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return len(SPECIAL_IDS) + len(self.characters)

    @property
    def pieces(self) -> list[str]:
        return ["<pad>", "<s>", "</s>", "<unk>", *self.characters]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS."""
        return [[self.id_of.get(character, UNK_ID) for character in line] for line in text_list(lines)]

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        return self.encode(lines)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row, without its special ids."""
        first = len(SPECIAL_IDS)
        return ["".join(self.characters[number - first] for number in row if number >= first) for row in ids]

    def serialized(self) -> bytes:
        return json.dumps({"kind": KIND, "characters": self.characters}).encode()

    def save(self, path: str | Path) -> None:
        write_whole(Path(path), self.serialized())


def train_character_tokenizer(texts: Iterable[str]) -> CharacterTokenizer:
    """Make a tokenizer from the distinct characters of `texts`, in the order of their code points."""
    found: set[str] = set()
    for text in texts:
        found.update(text)
    return CharacterTokenizer("".join(sorted(found)))


def load_character_tokenizer(content: bytes) -> CharacterTokenizer:
    """Load a tokenizer from the bytes that `save` wrote. Raises `ValueError` for any other bytes."""
    try:
        saved = json.loads(content)
        if saved["kind"] != KIND or not isinstance(saved["characters"], str):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("not a tokenizer of characters, or a damaged one") from None
    return CharacterTokenizer(saved["characters"])
