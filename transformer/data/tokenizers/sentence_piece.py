"""SentencePiece: text to token ids and back (§5.1)."""

import hashlib
import io
import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import sentencepiece

from transformer.data.text import text_list
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, SPECIAL_IDS, UNK_ID
from transformer.files import write_whole

Line = TypeVar("Line")

TRAINING_LINES = 1_000_000
"""Maximum number of lines that BPE is trained on; a larger corpus is sampled."""
MOST_ENTRIES = 37_000
"""The largest vocabulary that `suitable_size` chooses: the size of the paper's vocabulary."""
MOST = re.compile(r"set it to a value <= (\d+)")
LEAST = re.compile(r"smaller than required_chars. \d+ vs (\d+)")
"""If a vocabulary size is too large, SentencePiece's error names the largest possible size, which `MOST`
finds. If a size is too small, the error names the smallest possible size, which `LEAST` finds."""
MAX_LINE_BYTES = 65_536
"""The maximum length of a training line. Longer lines are split, because SentencePiece would silently ignore
them."""


class SentencePieceTokenizer:
    """A trained SentencePiece model with the special ids of `ModelConfig`."""

    keeps_lines = False
    is_threaded = True
    """SentencePiece encodes on all cores, so several processes would not be faster."""

    def __init__(self, model: bytes) -> None:
        self.processor = sentencepiece.SentencePieceProcessor()
        self.processor.LoadFromSerializedProto(model)  # raises RuntimeError if `model` is not valid
        self.digest: str = hashlib.sha256(model).hexdigest()
        """Identifies the model in checkpoints and in the cache of tokenized text."""
        processor = self.processor
        found = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        wanted = (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
        if found != wanted:
            raise ValueError(f"pad, bos, eos and unk have the ids {found}; this project needs {wanted}")

    @property
    def vocab_size(self) -> int:
        return self.processor.vocab_size()

    @property
    def pieces(self) -> list[str]:
        return self.processor.id_to_piece(list(range(self.vocab_size)))

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS; characters outside the vocabulary become bytes.

        With the normalisation `identity`, `decode` returns every line unchanged, with one exception: U+2581
        (▁) becomes a space, because SentencePiece uses it for spaces. The other normalisations rewrite
        characters.
        """
        return self.processor.encode(text_list(lines))

    def encode_target(self, lines: Sequence[str]) -> list[list[int]]:
        return self.encode(lines)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row, without its special ids; bytes that are not UTF-8 become U+FFFD."""
        decode = self.processor.decode
        return [decode([number for number in row if number not in SPECIAL_IDS]) for row in ids]

    def save(self, path: str | Path) -> None:
        write_whole(Path(path), self.processor.serialized_model_proto())


def train_tokenizer(
    lines: Iterable[str], *, vocab_size: int | None, normalization: str, symbols: Sequence[str] = ()
) -> SentencePieceTokenizer:
    """Train BPE with byte fallback and full character coverage; the same lines give the same model.

    Each of `symbols` is always one token, wherever it occurs. If `vocab_size` is None, the size depends on
    the amount of text, as described at the setting `data.vocab_size`.
    """
    sample = sample_lines(cut_lines(lines, MAX_LINE_BYTES), TRAINING_LINES)
    size = suitable_size(sample) if vocab_size is None else vocab_size
    try:
        return train_bpe(sample, size, normalization, symbols)
    except RuntimeError as error:
        limit = MOST.search(str(error)) or LEAST.search(str(error))
        if vocab_size is None and limit:  # the text has few distinct words or many distinct characters
            return train_bpe(sample, int(limit[1]), normalization, symbols)
        raise ValueError(explain(str(error), size)) from None


def suitable_size(lines: Sequence[str]) -> int:
    """The vocabulary size for a corpus: all bytes, special tokens and distinct characters, plus 4 × √length.

    The length of the corpus is counted in characters. The number of distinct words grows roughly like the
    square root of this length (Heaps' law). Therefore, most words become a single token, and only rare words
    are split. A corpus of 500 short pairs gets 1,300 entries, and a corpus of 30,000 short pairs gets 8,000.
    """
    single = 256 + len(SPECIAL_IDS) + len(set().union(*lines))
    return min(single + 4 * math.isqrt(sum(map(len, lines))), MOST_ENTRIES)


def train_bpe(
    lines: Iterable[str], vocab_size: int, normalization: str, symbols: Sequence[str]
) -> SentencePieceTokenizer:
    """Run SentencePiece's trainer.

    Raises `RuntimeError` if `vocab_size` is too large or too small for the text.
    """
    model = io.BytesIO()
    identity = normalization == "identity"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name=normalization,
        remove_extra_whitespaces=not identity,
        max_sentence_length=MAX_LINE_BYTES,
        pad_id=PAD_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        user_defined_symbols=list(symbols),
        num_threads=1,  # more threads only speed up reading, and abort the process if memory is short
        minloglevel=2,  # log only errors, which are also raised
    )
    return SentencePieceTokenizer(model.getvalue())


def cut_lines(lines: Iterable[str], most_bytes: int) -> Iterator[str]:
    """Split lines longer than `most_bytes` in UTF-8, at a space or, if there is none, between characters.

    The space itself is dropped, because SentencePiece treats the start of each part as the start of a word.
    """
    for line in lines:
        if 4 * len(line) <= most_bytes:  # no character has more than 4 bytes
            yield line
            continue
        rest = line.encode()
        while len(rest) > most_bytes:
            end = rest.rfind(b" ", 1, most_bytes + 1)
            start = end + 1
            if end < 0:
                end = most_bytes
                while rest[end] & 0b1100_0000 == 0b1000_0000:  # not the first byte of a character
                    end -= 1
                start = end
            yield rest[:end].decode()
            rest = rest[start:]
        yield rest.decode()


def sample_lines(lines: Iterable[Line], size: int) -> list[Line]:
    """Draw a uniform sample of up to `size` lines (reservoir sampling).

    SentencePiece can sample too, but draws a different sample in every process.
    """
    generator = random.Random(0)
    kept: list[Line] = []
    for number, line in enumerate(lines):
        if number < size:
            kept.append(line)
        elif (slot := int(generator.random() * (number + 1))) < size:
            kept[slot] = line
    return kept


def explain(message: str, vocab_size: int) -> str:
    """Rewrite an error of SentencePiece's trainer in terms of our settings."""
    if found := MOST.search(message):
        return (
            f"data.vocab_size is {vocab_size}, too large: this text fills only {found[1]} entries; "
            "lower data.vocab_size or train on more text"
        )
    if found := LEAST.search(message):
        return (
            f"data.vocab_size is {vocab_size}, too small for this text: its characters, 256 bytes and "
            f"{len(SPECIAL_IDS)} special tokens need {found[1]}"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return "there is no text to train a tokenizer on: every line is empty"
    return f"SentencePiece cannot train a tokenizer: {' '.join(message.split())}"
