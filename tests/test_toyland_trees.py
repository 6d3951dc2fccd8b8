"""Alignments and parses derived from the trees."""

import re

import pytest

from transformer.decoding.alignment import pharaoh
from transformer.toyland import (
    Constituent,
    Example,
    alignments,
    analyse,
    constituents,
    generate,
    parse,
    read_words,
)
from transformer.toyland.reading import tokens


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [*generate("train", 800), *generate("deeper", 100), *generate("new_pairs", 100)]


@pytest.mark.parametrize(
    ("sentence", "pairs"),
    [
        # The boy opens the door. / Der Junge macht die Tür auf.
        ("The boy opens the door.", "0-0 1-1 2-2 2-5 3-3 4-4"),
        # The boy does not open the door. / Der Junge macht die Tür nicht auf.
        ("The boy does not open the door.", "0-0 1-1 2-2 2-6 3-5 4-2 4-6 5-3 6-4"),
        # Because the boy sleeps, she waits. / Weil der Junge schläft, wartet sie.
        ("Because the boy sleeps, she waits.", "0-0 1-1 2-2 3-3 4-5 5-4"),
        # The boy gives a book to the child. / Der Junge gibt dem Kind ein Buch.
        ("The boy gives a book to the child.", "0-0 1-1 2-2 3-5 4-6 6-3 7-4"),
        # In the garden the boy has sung today. / Im Garten hat der Junge heute gesungen.
        ("In the garden the boy has sung today.", "0-0 1-0 2-1 3-3 4-4 5-2 6-6 7-5"),
        # Why do we not drink milk? / Warum trinken wir keine Milch?
        ("Why do we not drink milk?", "0-0 1-1 2-2 3-3 4-1 5-4"),
        # Der Mann, der keinen Kuchen kauft, macht die Tür nicht auf.
        (
            "The man who does not buy a cake does not open the door.",
            "0-0 1-1 2-2 3-5 4-3 5-5 6-3 7-4 8-6 8-10 9-9 10-6 10-10 11-7 12-8",
        ),
        # I need one hundred and two apples. / Ich brauche einhundertzwei Äpfel.
        ("I need one hundred and two apples.", "0-0 1-1 2-2 3-2 4-2 5-2 6-3"),
        # The boy has the hat. The woman needs it. / Der Junge hat den Hut. Die Frau braucht ihn.
        ("The boy has the hat. The woman needs it.", "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8"),
    ],
)
def test_alignment(sentence: str, pairs: str) -> None:
    assert pharaoh(alignments(analyse(sentence))) == pairs


def test_every_word_but_a_few_of_english_is_aligned(examples: list[Example]) -> None:
    for example in examples:
        english, german = example.source.split(), example.target.split()
        pairs = alignments(example)
        assert pairs == sorted(set(pairs))
        assert {word for _, word in pairs} == set(range(len(german))), example
        missing = {english[word] for word in set(range(len(english))) - {word for word, _ in pairs}}
        assert missing <= {"to"}, example


def test_names_are_aligned_with_themselves(examples: list[Example]) -> None:
    def bare(word: str) -> str:
        return word.strip(".,?")

    for example in examples:
        english, german = example.source.split(), example.target.split()
        for first, second in alignments(example):
            if bare(english[first]) in map(bare, german) and bare(english[first]).istitle() and first:
                assert bare(english[first]) == bare(german[second])


def test_parse() -> None:
    text = parse(analyse("The man sleeps."))
    assert text == "(ROOT (S (NP (DT the ) (NN man ) ) (VB sleeps ) ) (. . ) )"
    assert constituents(text) == [
        Constituent("DT", 0, 1),
        Constituent("NN", 1, 2),
        Constituent("NP", 0, 2),
        Constituent("VB", 2, 3),
        Constituent("S", 0, 3),
        Constituent(".", 3, 4),
        Constituent("ROOT", 0, 4),
    ]


def test_parse_keeps_every_word(examples: list[Example]) -> None:
    for example in examples:
        text = parse(example)
        assert read_words(text) == example.source
        found = constituents(text)
        assert found[-1] == Constituent("ROOT", 0, len(tokens(example.source)))
        assert all(constituent.start < constituent.stop for constituent in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("(S (NP the )", "1 brackets are not closed"), ("(S the ) )", "has no opening bracket")],
)
def test_broken_parse(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        constituents(text)
