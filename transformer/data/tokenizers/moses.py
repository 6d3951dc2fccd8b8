"""Lowercasing and word tokenization by Moses' rules before SentencePiece.

Many translation papers after 2007 prepared their text in this way, and computed BLEU on the resulting words.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from transformer.config.errors import install_extra
from transformer.data.text import text_list
from transformer.data.tokenizers.sentence_piece import (
    TRAINING_LINES,
    SentencePieceTokenizer,
    sample_lines,
    train_tokenizer,
)
from transformer.files import write_whole

KIND = "moses"


class MosesTokenizer:
    """Applies Moses' punctuation normaliser and word tokenizer, lowercasing, and then SentencePiece.

    Moses' rules come from sacremoses. `decode` joins the words with Moses' detokenizer; the text stays
    lowercase.
    """

    keeps_lines = False

    def __init__(self, subwords: SentencePieceTokenizer, source: str, target: str) -> None:
        self.subwords = subwords
        self.languages = source, target
        self.source, self.target = Words(source), Words(target)
        self.digest: str = hashlib.sha256(self.serialized()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return self.subwords.vocab_size

    @property
    def pieces(self) -> list[str]:
        return self.subwords.pieces

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each source line, without BOS and EOS."""
        return self.subwords.encode([self.source.cut(line) for line in text_list(lines)])

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        return self.subwords.encode([self.target.cut(line) for line in text_list(lines)])

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The detokenised target text of each row, without its special ids."""
        return [self.target.join(words) for words in self.subwords.decode(ids)]

    def serialized(self) -> bytes:
        model = base64.b64encode(self.subwords.processor.serialized_model_proto()).decode()
        return json.dumps({"kind": KIND, "languages": self.languages, "model": model}).encode()

    def save(self, path: str | Path) -> None:
        write_whole(Path(path), self.serialized())

    def __reduce__(self) -> tuple[Any, ...]:  # pickled for other processes and for the datasets cache key
        return load_moses_tokenizer, (self.serialized(),)


class Words:
    """Moses' rules for one language."""

    def __init__(self, language: str) -> None:
        try:
            import sacremoses
        except ImportError:
            raise ValueError(
                f"data.tokenizer is moses, which needs sacremoses; {install_extra('moses')}"
            ) from None
        self.normalizer = sacremoses.MosesPunctNormalizer(lang=language)
        self.tokenizer = sacremoses.MosesTokenizer(lang=language)
        self.detokenizer = sacremoses.MosesDetokenizer(lang=language)

    def cut(self, line: str) -> str:
        """The line's words in lowercase, separated by spaces."""
        return self.tokenizer.tokenize(self.normalizer.normalize(line), escape=False, return_str=True).lower()

    def join(self, words: str) -> str:
        return self.detokenizer.detokenize(words.split(), unescape=False)


def train_moses_tokenizer(
    sources: Iterable[str], targets: Iterable[str], *, vocab_size: int | None, source: str, target: str
) -> MosesTokenizer:
    """Train one BPE model on the words of both languages; `source` and `target` are codes such as `en`."""
    in_source, in_target = Words(source), Words(target)
    lines = chain(((in_source, line) for line in sources), ((in_target, line) for line in targets))
    sample = sample_lines(lines, TRAINING_LINES)  # first, because the rules take 0.4 ms per line
    words = (rules.cut(line) for rules, line in sample)
    return MosesTokenizer(
        train_tokenizer(words, vocab_size=vocab_size, normalization="identity"), source, target
    )


def names_moses(content: bytes) -> bool:
    """Whether the content looks like a file that `save` wrote."""
    return content.startswith(json.dumps({"kind": KIND})[:-1].encode())


def load_moses_tokenizer(content: bytes) -> MosesTokenizer:
    """Load a tokenizer from the bytes that `save` wrote. Raises `ValueError` for any other bytes."""
    try:
        saved = json.loads(content)
        source, target = saved["languages"]
        if saved["kind"] != KIND or not (isinstance(source, str) and isinstance(target, str)):
            raise ValueError
        model = base64.b64decode(saved["model"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("not a tokenizer of Moses' words, or a damaged one") from None
    return MosesTokenizer(SentencePieceTokenizer(model), source, target)
