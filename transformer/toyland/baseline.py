"""A baseline: word-for-word translation."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

from transformer.toyland.corpus import generate
from transformer.toyland.numbers import english_number, german_number
from transformer.toyland.tree import Branch, Leaf

# Words that never form a leaf by themselves, so `_dictionary` cannot learn them from the corpus.
_FURTHER = {
    "hundred": "hundert",
    "thousand": "tausend",
    "and": "und",
    "half": "halb",
    "past": "nach",
    "quarter": "Viertel",
    "called": "angerufen",
    # These words belong to a verb (`to sell`, `looks for`, `tries on`). The German form of the verb
    # translates both words.
    **dict.fromkeys(("to", "for", "on", "off", "up", "along"), ""),
}


def dictionary_translation(sentence: str) -> str:
    """Replace each English word with its most frequent German form, in English order; copy unknown words."""
    words = (_translated(word) for word in sentence.split())
    text = " ".join(word for word in words if word).replace(" .", ".").replace(" ?", "?").replace(" ,", ",")
    return text[:1].upper() + text[1:]


def _translated(word: str) -> str:
    bare = word.rstrip(".,?")
    table = _dictionary()
    german = table.get(bare, table.get(bare[:1].lower() + bare[1:], bare))
    return german + word[len(bare) :]


@cache
def _dictionary() -> dict[str, str]:
    """The most frequent translation of each word in training sentences, and all number words up to 99."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for example in generate("train", 5_000):
        for leaf in _leaves(example.tree):
            if leaf.english and leaf.label != "NNP":
                english, german = _head(leaf)
                counts[english][german] += 1
    # Ties go to the alphabetically first form.
    words = {english: max(sorted(forms), key=forms.__getitem__) for english, forms in counts.items()}
    return _FURTHER | words | _number_words()


def _leaves(branch: Branch) -> Iterator[Leaf]:
    for child in branch.english:
        if isinstance(child, Branch):
            yield from _leaves(child)
        else:
            yield child


def _head(leaf: Leaf) -> tuple[str, str]:
    """A leaf's key in the dictionary (`looks` for `looks for`, `sell` for `to sell`), and its translation."""
    return leaf.english.removeprefix("to ").split(" ")[0], leaf.german


def _number_words() -> dict[str, str]:
    return {english_number(number): german_number(number) for number in range(100)}
