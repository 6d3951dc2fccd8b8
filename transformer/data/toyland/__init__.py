"""Toyland: English and German from one grammar, so that the reference is the only right translation."""

from transformer.data.toyland.baseline import dictionary_translation
from transformer.data.toyland.corpus import SPLITS, Example, generate, split_of
from transformer.data.toyland.draft import PHENOMENA
from transformer.data.toyland.tree import Branch, Leaf, Node, english_text, german_text

__all__ = [
    "PHENOMENA",
    "SPLITS",
    "Branch",
    "Example",
    "Leaf",
    "Node",
    "dictionary_translation",
    "english_text",
    "generate",
    "german_text",
    "split_of",
]
