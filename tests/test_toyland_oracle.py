"""The oracle translates all sentences of the grammar and rejects all others."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from transformer.toyland import (
    GENERALISATION,
    PHENOMENA,
    SPLITS,
    analyse,
    english_text,
    generate,
    translate,
)
from transformer.toyland.numbers import english_number
from transformer.toyland.reading import number_of, numbers, unknown_words

# Runs in a separate process without the run-time type checks, so that it is fast enough for many sentences.
AGREEMENT = """
import sys
from transformer.toyland import generate, translate
for split in sys.argv[2:]:
    for example in generate(split, int(sys.argv[1])):
        assert translate(example.source) == example.target, example.source
"""


def agree(count: int) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", AGREEMENT, str(count), *SPLITS, *GENERALISATION]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_oracle_agrees_with_the_generator() -> None:
    agree(15)


@pytest.mark.slow
def test_oracle_agrees_with_the_generator_on_thousands() -> None:
    agree(300)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("The boy does not open the door.", "Der Junge macht die Tür nicht auf."),
        ("The boy cannot open the door.", "Der Junge kann die Tür nicht aufmachen."),
        ("Why do we not drink milk?", "Warum trinken wir keine Milch?"),
        ("Because the boy sleeps, she waits.", "Weil der Junge schläft, wartet sie."),
        ("The boy has the hat. The woman needs it.", "Der Junge hat den Hut. Die Frau braucht ihn."),
        ("Who has seen Velmora?", "Wer hat Velmora gesehen?"),
        (
            "The castle costs one thousand four hundred and forty euros.",
            "Das Schloss kostet eintausendvierhundertvierzig Euro.",
        ),
        ("  Garden   sleeps. ", "Garden schläft."),
    ],
)
def test_sentences_that_a_user_types(english: str, german: str) -> None:
    assert translate(english) == german


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("The boy sees a zebra.", "unknown word zebra$"),
        ("The quick boy sees a zebra.", "unknown words quick, zebra$"),
        ("The boy buy a cake.", "the grammar never produces 'The boy buy a cake.'"),
        ("The boys sleeps.", "the grammar never produces"),
        ("An boy sleeps.", "the grammar never produces"),
        ("The cake eats the boy.", "the grammar never produces"),
        ("The man who sleeps buys.", "the grammar never produces"),
        ("The boy sleeps", r"a sentence ends in \. or \?"),
        ("", r"a sentence ends in \. or \?"),
        ("the boy sleeps.", "a sentence begins with a capital letter"),
    ],
)
def test_what_is_outside_is_refused(sentence: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^outside toyland: .*{reason}"):
        translate(sentence)


def test_analysis_gives_tree_and_phenomena() -> None:
    example = analyse("In the garden the boy has sung today.")
    assert english_text(example.tree) == example.source
    assert example.phenomena == ("verb_second", "perfect")


def test_every_word_that_is_said_is_known() -> None:
    for split in ("train", *GENERALISATION):
        for example in generate(split, 80):
            assert unknown_words(example.source) == []


def test_numbers_are_read() -> None:
    for number in (*range(130), *range(200, 1_000_000, 9_973)):
        assert number_of(english_number(number).split()) == number
    assert number_of(["hundred"]) is number_of(["three", "apples"]) is number_of(["three", "four"]) is None
    assert list(numbers(["At", "three", "three", "hundred", "dogs", "sleep"])) == [300, 3, 3]


def test_the_document_translates_as_the_oracle_does() -> None:
    text = (Path(__file__).parents[1] / "docs/toyland.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([A-Z].+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["phenomenon", *PHENOMENA]
    for phenomenon, english, german in rows[1:]:
        assert translate(english) == german
        assert phenomenon in analyse(english).phenomena
