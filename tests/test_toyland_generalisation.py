"""The splits with sentences of kinds that never occur in training."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from transformer.toyland import GENERALISATION, SPLITS, Branch, Example, Leaf, generate
from transformer.toyland.events import FATES
from transformer.toyland.generalisation import NEW_DEEDS, NEW_QUALITIES
from transformer.toyland.heldout import (
    ADJECTIVE_PAIRS,
    VERB_PAIRS,
    NewNumbers,
    held_out_numbers,
    is_held_out,
    pairs,
)
from transformer.toyland.inflection import NOUN
from transformer.toyland.names import is_invented
from transformer.toyland.reading import numbers, tokens


@pytest.fixture(scope="module")
def train() -> list[Example]:
    return list(generate("train", 3_000))


def leaves(tree: Branch) -> Iterator[Leaf]:
    for child in tree.english:
        if isinstance(child, Branch):
            yield from leaves(child)
        else:
            yield child


def clauses(tree: Branch) -> int:
    return (tree.label == "S") + sum(clauses(child) for child in tree.english if isinstance(child, Branch))


def test_no_split_shares_a_sentence_with_another(train: list[Example]) -> None:
    splits = {split: {example.source for example in generate(split, 100)} for split in GENERALISATION}
    splits |= {split: {example.source for example in generate(split, 100)} for split in SPLITS[1:]}
    splits["train"] = {example.source for example in train}
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == 6 * 100 + 3_000


def test_deeper_has_a_clause_more_than_training_ever_has(train: list[Example]) -> None:
    assert max(clauses(example.tree) for example in train) == 2
    assert {clauses(example.tree) for example in generate("deeper", 100)} == {3}


def test_new_names_have_endings_of_their_own(train: list[Example]) -> None:
    def names(examples: Iterator[Example] | list[Example]) -> list[str]:
        return [leaf.english for item in examples for leaf in leaves(item.tree) if leaf.label == "NNP"]

    old, new = names(train), names(generate("new_names", 100))
    assert not {name[-1] for name in old} & {name[-1] for name in new}
    assert len(new) >= 100
    assert all(map(is_invented, old + new))


def test_new_numbers_are_never_said_elsewhere(train: list[Example]) -> None:
    for example in generate("new_numbers", 100):
        assert any(map(is_held_out, numbers(tokens(example.source))))
    for example in (*train, *generate("valid", 100), *generate("new_names", 100)):
        said = [leaf.english for leaf in leaves(example.tree) if leaf.label == "CD"]
        assert not any(map(is_held_out, (number for words in said for number in numbers(words.split()[:1]))))
        for words in said:
            assert not is_held_out(next(numbers(words.split()), 1))


def test_one_number_in_a_thousand_is_held_out() -> None:
    held_out = held_out_numbers(0, 1_000_000)
    assert 900 < len(held_out) < 1100
    # Small numbers are too frequent to leave out of training.
    assert min(held_out) > 1000
    assert NewNumbers(lambda: 0.999).whole(0.999, 2, 98) == 99


def test_the_tables_pair_what_the_lexicon_does_not() -> None:
    for adjective, nouns in pairs(ADJECTIVE_PAIRS).items():
        for noun in nouns:
            assert adjective not in {word.english for word in NOUN[noun].adjectives}, (adjective, noun)
    for verb, nouns in pairs(VERB_PAIRS).items():
        for noun in nouns:
            assert verb not in {event.verb.english for event in FATES[noun]}, (verb, noun)
    assert sum(len(noun.adjectives) for noun in NEW_QUALITIES) == sum(
        map(len, pairs(ADJECTIVE_PAIRS).values())
    )
    assert {event.verb.english for event in NEW_DEEDS} == set(pairs(VERB_PAIRS))


def test_new_pairs_show_a_pair_that_training_never_shows(train: list[Example]) -> None:
    described = {(adjective.english, noun.english) for noun in NEW_QUALITIES for adjective in noun.adjectives}

    def attributes(example: Example) -> set[tuple[str, str]]:
        words = list(leaves(example.tree))
        return {
            (first.english, noun)
            for first, second in pairwise(words)
            if first.label == "JJ" and (noun := singular(second.english))
        }

    assert not any(attributes(example) & described for example in train)
    new = list(generate("new_pairs", 100))
    assert sum(bool(attributes(example) & described) for example in new) > 15


def singular(word: str) -> str:
    return next(
        (
            noun.english
            for noun in NOUN.values()
            if word in (noun.forms[0][0].english, noun.forms[1][0].english)
        ),
        "",
    )


# Runs in a separate process without the run-time type checks.
COLLISIONS = """
from random import Random
from transformer.toyland import draft, english_text, german_text
from transformer.toyland.draft import Draft
from transformer.toyland.generalisation import deeper, new_pair

draft.invented_name = lambda random: "Velmora"
random = Random(5).random
for maker, count in ((deeper, 20_000), (new_pair, 40_000)):
    translations, repeated = {}, 0
    for _ in range(count):
        tree = maker(Draft(random))
        source, target = english_text(tree), german_text(tree)
        repeated += source in translations
        assert translations.setdefault(source, target) == target, (source, target, translations[source])
    print(repeated)
"""


def test_english_determines_german() -> None:
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", COLLISIONS], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[1]) > 1_000
