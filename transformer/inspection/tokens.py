"""Tokens as a reader sees them: pieces with visible spaces, and the words that they make up."""

import unicodedata
from collections.abc import Mapping, Sequence

from transformer.data.text import one_line
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, SPECIAL_IDS, Tokenizer
from transformer.decoding.alignment import words_of
from transformer.inspection.data import Axis

START, END = "⟨start⟩", "⟨end⟩"
SPECIAL_TEXTS = {PAD_ID: "⟨pad⟩", BOS_ID: START, EOS_ID: END}
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts without spaces between words, by how their characters' names begin; each piece is a word."""


def axis_of(
    tokenizer: Tokenizer, ids: Sequence[int], label: str, special: Mapping[int, str] = SPECIAL_TEXTS
) -> Axis:
    """The pieces and words of `ids`; each of the `special` ids is a word of its own."""
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
    """The ids in order: each special one alone, the others between them together."""
    found: list[list[int]] = []
    for number in ids:
        if number in special or not found or found[-1][-1] in special:
            found.append([])
        found[-1].append(number)
    return found


def words_in(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[list[str], list[bool], list[int]]:
    """The words of a text, whether a space comes before each, and the number of each piece's word."""
    by_space = words_of(tokenizer, ids)
    texts = tokenizer.decode([[number] for number in ids])
    for place in reversed(range(len(ids) - 1)):  # a space that is a piece of its own begins the next word
        if not texts[place].strip():
            by_space[place] = by_space[place + 1]
    alone = [stands_alone(text) or "\n" in text for text in texts]
    mark = [bool(text.strip()) and all(map(is_mark, text.strip())) for text in texts]
    for place in reversed(range(1, len(ids))):  # marks that end a word are words of their own
        is_last = place + 1 == len(ids) or by_space[place + 1] != by_space[place] or alone[place + 1]
        alone[place] |= mark[place] and is_last and by_space[place] == by_space[place - 1]
    starts = [
        place == 0 or by_space[place] != by_space[place - 1] or alone[place] or alone[place - 1]
        for place in range(len(ids))
    ]
    for place in range(1, len(ids)):
        if starts[place - 1] and not texts[place - 1].strip():
            starts[place] = False
    word_of = [sum(starts[: place + 1]) - 1 for place in range(len(ids))]
    groups: list[list[int]] = [[] for _ in range(sum(starts))]
    for number, word in zip(ids, word_of, strict=True):
        groups[word].append(number)
    words = [
        visible(text.strip()) or "".join(piece_text(tokenizer, number) for number in group)
        for text, group in zip(tokenizer.decode(groups), groups, strict=True)
    ]
    firsts = [place for place, is_start in enumerate(starts) if is_start]
    is_spaced = ["\n" in texts[place] or by_space[place] != by_space[place - 1] for place in firsts]
    return words, [True, *is_spaced[1:]], word_of


def is_mark(character: str) -> bool:
    """Whether this is a punctuation mark."""
    return unicodedata.category(character).startswith("P")


def stands_alone(text: str) -> bool:
    """Whether a piece is of a script without spaces between words."""
    return any(unicodedata.name(character, "").startswith(WITHOUT_SPACES) for character in text)


def visible(text: str) -> str:
    """The text with control characters replaced by pictures of them."""
    return "".join(picture(character) for character in text)


def picture(character: str) -> str:
    if character == "\n":
        return "↵"
    if ord(character) < 32:
        return chr(0x2400 + ord(character))
    is_hidden = unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
    return f"⟨U+{ord(character):04X}⟩" if is_hidden else character


def token_text(tokenizer: Tokenizer, number: int) -> str:
    """One token of the vocabulary."""
    if number in SPECIAL_IDS:
        return SPECIAL_TEXTS.get(number, "⟨unknown⟩")
    return piece_text(tokenizer, number)


def piece_text(tokenizer: Tokenizer, number: int) -> str:
    """A token as its tokenizer names it, with ␣ for a space, for which SentencePiece writes ▁."""
    return visible(tokenizer.pieces[number]).replace(" ", "␣").replace("▁", "␣")
