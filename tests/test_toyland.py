"""Laws of the toyland corpus as a whole."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from transformer.toyland import (
    PHENOMENA,
    SPLITS,
    Branch,
    Example,
    Leaf,
    dictionary_translation,
    english_text,
    generate,
    german_text,
    split_of,
)
from transformer.toyland.inflection import ADJECTIVES, NOUNS

FIRST_TEST_SENTENCES = [
    "This duck has waited because it is young.",
    "I cook the potatoes that the woman brings along.",
    "She closes the suitcase because it is clean.",
]


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(generate("train", 8_000))


def branches(tree: Branch) -> Iterator[Branch]:
    yield tree
    for child in tree.english:
        if isinstance(child, Branch):
            yield from branches(child)


def leaves(tree: Branch) -> Iterator[Leaf]:
    return (child for branch in branches(tree) for child in branch.english if isinstance(child, Leaf))


# Runs in a separate process without the run-time type checks, so that it is fast enough for many sentences.
COLLISIONS = """
from random import Random
from transformer.toyland import draft, english_text, german_text
from transformer.toyland.draft import Draft
from transformer.toyland.kinds import say

# With only two names, many sentences are repeated, which would reveal a second translation.
draft.invented_name = lambda random: ("Velmora", "Tibrenko")[int(random() * 2)]
random = Random(5).random
translations, repeated = {}, 0
for _ in range(150_000):
    tree = say(Draft(random))
    source, target = english_text(tree), german_text(tree)
    repeated += source in translations
    assert translations.setdefault(source, target) == target, (source, target, translations[source])
print(repeated)
"""


def test_english_determines_german() -> None:
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", COLLISIONS], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 10_000


def test_splits_share_no_sentence() -> None:
    sources = {split: {example.source for example in generate(split, 300)} for split in SPLITS}
    assert sum(map(len, sources.values())) == len(set().union(*sources.values())) == 900
    for split, members in sources.items():
        assert {split_of(source) for source in members} == {split}


@pytest.mark.parametrize("split", SPLITS)
def test_fewer_examples_are_the_beginning_of_more(split: str) -> None:
    few = [example[:3] for example in generate(split, 30)]
    assert few == [example[:3] for example in islice(generate(split, 90), 30)]
    assert len(few) == 30


def test_the_stream_is_the_same_everywhere() -> None:
    """Recorded values, to detect differences between machines and Python versions.

    A change of the grammar changes them.
    """
    assert [example.source for example in generate("test", 3)] == FIRST_TEST_SENTENCES


def test_no_sentence_comes_twice(examples: list[Example]) -> None:
    assert len({example.source for example in examples}) == len(examples)


def test_unknown_split_names_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="train, valid, test"):
        generate("dev", 1)


def test_tree_reads_out_as_both_sentences(examples: list[Example]) -> None:
    for example in examples[:5_000]:
        assert english_text(example.tree) == example.source
        assert german_text(example.tree) == example.target


def test_german_order_is_a_permutation(examples: list[Example]) -> None:
    for example in examples[:5_000]:
        for branch in branches(example.tree):
            assert Counter(map(id, branch.english)) == Counter(map(id, branch.german))


def test_every_word_has_a_translation_or_shares_one(examples: list[Example]) -> None:
    """A leaf without English or German is a comma, a `to`, or linked to a leaf of its clause that has it."""
    for example in examples[:5_000]:
        for clause in branches(example.tree):
            if clause.label != "S":
                continue
            units: dict[str, list[Leaf]] = {}
            for leaf in own_leaves(clause):
                if leaf.link:
                    units.setdefault(leaf.link, []).append(leaf)
                else:
                    assert (leaf.english and leaf.german) or leaf.label in (",", "IN"), leaf
            for unit in units.values():
                assert any(leaf.english for leaf in unit), unit
                assert any(leaf.german for leaf in unit), unit


def own_leaves(clause: Branch) -> Iterator[Leaf]:
    for child in clause.english:
        if isinstance(child, Leaf):
            yield child
        elif child.label != "S":
            yield from own_leaves(child)


def test_sentences_look_like_text(examples: list[Example]) -> None:
    for example in examples:
        for text in (example.source, example.target):
            assert re.fullmatch(r"[A-ZÄÖÜ][\w'-]*(,? [\w'-]+|\. [A-ZÄÖÜ]\w*)*[.?]", text), text
        assert example.source.count(" ") < 20
        assert example.source[-1] == example.target[-1]


def test_every_phenomenon_is_common(examples: list[Example]) -> None:
    seen = Counter(phenomenon for example in examples for phenomenon in example.phenomena)
    assert set(seen) == set(PHENOMENA)
    assert min(seen.values()) > 0.06 * len(examples)


def test_sentences_are_short(examples: list[Example]) -> None:
    mean = sum(example.source.count(" ") + 1 for example in examples) / len(examples)
    assert 8 < mean < 11


def test_every_word_of_the_lexicon_is_used(examples: list[Example]) -> None:
    words = Counter(word.strip(".,?").lower() for example in examples for word in example.source.split())
    for entry in (*NOUNS, *ADJECTIVES):
        assert words[entry.english] > 4, entry.english


def test_names_are_copied_and_mostly_new(examples: list[Example]) -> None:
    names = [leaf.english for example in examples for leaf in leaves(example.tree) if leaf.label == "NNP"]
    assert len(set(names)) > 0.95 * len(names)
    for example in examples:
        for leaf in leaves(example.tree):
            if leaf.label == "NNP":
                assert leaf.english in example.source
                assert leaf.english in example.target


def test_verb_is_second_after_what_is_fronted(examples: list[Example]) -> None:
    for example in examples:
        for branch in branches(example.tree):
            labels = [child.label for child in branch.german]
            if branch.label == "S" and labels[0] in ("PP", "NP") and "verb_second" in example.phenomena:
                assert labels[1] in ("VB", "MD", "AUX", "NP", "PP")
                first_verb = next(i for i, label in enumerate(labels) if label in ("VB", "MD"))
                assert first_verb == 1


def test_pronoun_agrees_with_its_noun(examples: list[Example]) -> None:
    genders = {
        form.german: noun.gender for noun in NOUNS for form in noun.forms[0] if "person" not in noun.kinds
    }
    for example in examples:
        if "pronoun" in example.phenomena:
            nouns = {leaf.german for leaf in leaves(example.tree) if leaf.label == "NN"} & set(genders)
            german = {leaf.german for leaf in leaves(example.tree) if leaf.english == "it"}
            assert len(nouns) == len(german) == 1, example.source
            forms = {0: {"er", "ihn"}, 1: {"sie"}, 2: {"es"}}[genders[nouns.pop()]]
            assert german <= forms


def test_dictionary_knows_every_word_and_beats_copying(examples: list[Example]) -> None:
    for example in examples[:1_000]:
        translation = dictionary_translation(example.source)
        assert translation[-1] == example.source[-1]
        assert "  " not in translation
        for name in (leaf.english for leaf in leaves(example.tree) if leaf.label == "NNP"):
            assert name in translation
    assert dictionary_translation("The woman sees Velmora.").endswith("Frau sieht Velmora.")
    assert dictionary_translation("It is twenty-one.") == "Es ist einundzwanzig."
    right = sum(dictionary_translation(example.source) == example.target for example in examples[:1_000])
    assert 0 < right < 200
