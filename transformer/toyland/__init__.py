"""Toyland: English and German from one grammar; each sentence has exactly one correct translation."""

from transformer.toyland.alignment import alignments, antecedents, particles
from transformer.toyland.baseline import dictionary_translation
from transformer.toyland.corpus import GENERALISATION, SPLITS, Example, generate, split_of
from transformer.toyland.draft import PHENOMENA
from transformer.toyland.oracle import analyse, obviously_outside, translate, why_outside
from transformer.toyland.parse import Constituent, constituents, parse, phrases, read_words
from transformer.toyland.tree import Branch, Leaf, Node, english_text, german_text

__all__ = [
    "GENERALISATION",
    "PHENOMENA",
    "SPLITS",
    "Branch",
    "Constituent",
    "Example",
    "Leaf",
    "Node",
    "alignments",
    "analyse",
    "antecedents",
    "constituents",
    "dictionary_translation",
    "english_text",
    "generate",
    "german_text",
    "obviously_outside",
    "parse",
    "particles",
    "phrases",
    "read_words",
    "split_of",
    "translate",
    "why_outside",
]
