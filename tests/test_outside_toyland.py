"""A model of toyland says when it is given another language."""

from dataclasses import replace

import pytest

from transformer.cli import main
from transformer.cli.outside_toyland import MOST_PARSED, MOST_WARNINGS, OutsideToyland, learned_toyland
from transformer.config.files import load_settings
from transformer.toyland import analyse, generate, why_outside
from transformer.toyland.oracle import LONGEST


@pytest.fixture
def warned(capsys):
    def check(*sentences, first_line=1, by=None):
        (by or OutsideToyland()).check(sentences, first_line)
        return capsys.readouterr().err.splitlines()

    return check


def test_toylands_own_sentences_are_fine(warned):
    sentences = [pair.source for pair in generate("test", 30)]
    for start in range(0, 30, 6):
        assert warned(*sentences[start : start + 6]) == []
    assert warned(*sentences) == []
    assert warned("", "  ", "\t") == []


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Hello world", "unknown word world"),
        ("The manual sleeps in a printer.", "unknown words manual, printer"),
        ("The dog sleeps", "a sentence ends in . or ?"),
        ("the dog sleeps.", "a sentence begins with a capital letter"),
        ("The dog the dog.", "all words are known, but the grammar never produces 'The dog the dog.'"),
    ],
)
def test_a_warning_names_the_line_and_the_reason(sentence, reason, warned):
    line = f"warning: line 8 is outside toyland: {reason}"
    assert warned("The dog sleeps.", sentence, first_line=7) == [line]
    with pytest.raises(ValueError, match="outside toyland"):
        analyse(sentence)
    assert why_outside(sentence) == f"outside toyland: {reason}"


def test_of_many_sentences_only_the_words_are_checked(warned):
    """Parsing them would take longer than translating them."""
    wrong = ["The dog the dog."] * (MOST_PARSED + 1)
    assert warned(*wrong) == []
    assert len(warned(*wrong[:MOST_PARSED])) == MOST_PARSED
    assert "unknown word world" in warned(*wrong, "Hello world")[0]


def test_a_huge_line_gets_a_short_warning_at_once(warned):
    """Parsing it would take hours, and repeating it would fill the screen."""
    for line in ("a\u0394" * 50_000, "x1 " * 50_000, "The dog " * 50_000 + "."):
        (warning,) = warned(line)
        assert len(warning) < 300
    assert all(len(pair.source.split()) <= LONGEST / 2 for pair in generate("deeper", 300))


def test_another_language_is_reported_ten_times(warned):
    outside = OutsideToyland()
    lines = warned(*["Hello world"] * 7, by=outside) + warned(*["Hello world"] * 7, first_line=8, by=outside)
    assert len(lines) == MOST_WARNINGS == 10
    assert lines[-1] == (
        "warning: line 10 is outside toyland: unknown word world; further lines are not checked"
    )
    assert warned("Hello world", by=outside) == []


def test_only_a_run_of_toyland_warns(tiny_run, monkeypatch):
    assert learned_toyland([str(tiny_run)])
    settings = load_settings(tiny_run / "config.yaml")
    other = replace(settings, data=replace(settings.data, train="data/mine/train"))
    monkeypatch.setattr("transformer.cli.outside_toyland.load_settings", lambda _: other)
    assert not learned_toyland([str(tiny_run)])


def test_the_command_warns_and_translates(tiny_run, tmp_path, capsys):
    (tmp_path / "in").write_text("The dog sleeps.\nHello world\n")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["translate", "--run", str(tiny_run), *arguments]) == 0
    assert capsys.readouterr().err == "warning: line 2 is outside toyland: unknown word world\n"
    assert len((tmp_path / "out").read_text().splitlines()) == 2
