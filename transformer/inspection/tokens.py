"""Tokens as a reader sees them: pieces with visible spaces, and the words that the pieces make up."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformer.data.text import one_line
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, SPECIAL_IDS, Tokenizer
from transformer.decoding.alignment import words_of

START, END = "⟨start⟩", "⟨end⟩"
SPECIAL_TEXTS = {PAD_ID: "⟨pad⟩", BOS_ID: START, EOS_ID: END}
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that are written without spaces, so each piece in such a script counts as a word.

Each entry is a prefix that the Unicode names of the script's characters have in common.
"""


@dataclass(frozen=True)
class Axis:
    """A sequence of tokens: its pieces, and the words to which the pieces belong."""

    label: str
    text: str
    pieces: list[str]
    words: list[str]
    word_of: list[int]
    """For each piece, the index of its word in `words`."""
    is_spaced: list[bool]
    """Whether a space comes before each word."""

    @property
    def spaced_word_of(self) -> list[int]:
        """For each piece, the index of its word when words are split only at spaces, as in alignments."""
        return [sum(self.is_spaced[: word + 1]) - 1 for word in self.word_of]

    def word_at(self, number: int) -> int:
        """Return the index in `words` at which the space-separated word `number` (counted from 0) begins."""
        return [word for word, spaced in enumerate(self.is_spaced) if spaced][number]


def axis_of(
    tokenizer: Tokenizer, ids: Sequence[int], label: str, special: Mapping[int, str] = SPECIAL_TEXTS
) -> Axis:
    """Make the axis of `ids`; each of the `special` ids is a separate word."""
    pieces: list[str] = []
    words: list[str] = []
    word_of: list[int] = []
    is_spaced: list[bool] = []
    for part in runs(ids, special):
        if part[0] in special:
            texts, spaced, numbers = [special[part[0]]], [True], [0]
        else:
            texts, spaced, numbers = words_in(tokenizer, part)
        pieces += [special.get(number) or piece_text(tokenizer, number) for number in part]
        word_of += [len(words) + number for number in numbers]
        words += texts
        is_spaced += spaced
    [text] = tokenizer.decode([[number for number in ids if number not in special]])
    return Axis(label, visible(one_line(text)), pieces, words, word_of, is_spaced)


def runs(ids: Sequence[int], special: Mapping[int, str]) -> list[list[int]]:
    """Split the ids into runs: a special id is one run, and the ids between two special ids are one run."""
    found: list[list[int]] = []
    for number in ids:
        if number in special or not found or found[-1][-1] in special:
            found.append([])
        found[-1].append(number)
    return found


def words_in(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[list[str], list[bool], list[int]]:
    """Return the words, whether a space comes before each word, and the word index of each piece."""
    texts = tokenizer.decode([[number] for number in ids])
    by_space = words_of(tokenizer, ids)
    for place in reversed(range(len(ids) - 1)):  # a piece that is only a space belongs to the next word
        if not texts[place].strip():
            by_space[place] = by_space[place + 1]
    starts = word_starts(texts, by_space)
    groups = [list(ids[first:last]) for first, last in pairwise([*starts, len(ids)])]
    words = [
        visible(text.strip()) or "".join(piece_text(tokenizer, number) for number in group)
        for text, group in zip(tokenizer.decode(groups), groups, strict=True)
    ]
    is_spaced = [
        place == 0 or "\n" in texts[place] or by_space[place] != by_space[place - 1] for place in starts
    ]
    word_of = [word for word, group in enumerate(groups) for _ in group]
    return words, is_spaced, word_of


def word_starts(texts: Sequence[str], by_space: Sequence[int]) -> list[int]:
    """Return the indices of the pieces that begin a word.

    A new word begins after a space. Three kinds of pieces are words by themselves: a line break, a piece that
    `stands_alone` accepts, and punctuation at the end of a word. A new word also begins after such a piece.
    """
    alone = [stands_alone(text) or "\n" in text for text in texts]
    for place in reversed(range(1, len(texts))):
        is_last = place + 1 == len(texts) or by_space[place + 1] != by_space[place] or alone[place + 1]
        alone[place] |= is_last and by_space[place] == by_space[place - 1] and is_mark(texts[place].strip())
    starts = [0]
    for place in range(1, len(texts)):
        is_new = by_space[place] != by_space[place - 1] or alone[place] or alone[place - 1]
        is_after_space = starts[-1] == place - 1 and not texts[place - 1].strip()
        if is_new and not is_after_space:
            starts.append(place)
    return starts


def is_mark(text: str) -> bool:
    """Whether a string contains punctuation only."""
    return bool(text) and all(unicodedata.category(character).startswith("P") for character in text)


def stands_alone(text: str) -> bool:
    """Whether a piece has a character of a script that is written without spaces between words."""
    return any(unicodedata.name(character, "").startswith(WITHOUT_SPACES) for character in text)


def visible(text: str) -> str:
    """Replace control characters with visible symbols."""
    return "".join(picture(character) for character in text)


def picture(character: str) -> str:
    if character == "\n":
        return "↵"
    if ord(character) < 32:
        return chr(0x2400 + ord(character))
    is_hidden = unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
    return f"⟨U+{ord(character):04X}⟩" if is_hidden else character


class Texts:
    """Converts single tokens and whole outputs to text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def token(self, number: int) -> str:
        if number in SPECIAL_IDS:
            return SPECIAL_TEXTS.get(number, "⟨unknown⟩")
        return piece_text(self.tokenizer, number)

    def output(self, tokens: Sequence[int]) -> str:
        """Return the text of an output, in one line and without special tokens."""
        return one_line(self.tokenizer.decode([list(tokens)])[0])


def piece_text(tokenizer: Tokenizer, number: int) -> str:
    """Return a token's entry in the vocabulary, with spaces marked by ␣ (SentencePiece marks spaces by ▁)."""
    return visible(tokenizer.pieces[number]).replace(" ", "␣").replace("▁", "␣")
