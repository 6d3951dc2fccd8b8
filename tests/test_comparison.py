"""`evaluate --output` and `transformer compare`: what they write, and the figures are sacreBLEU's own."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace

import pytest
import sacrebleu

from transformer.cli import main
from transformer.config.files import load_settings, save_settings
from transformer.decoding.translator import Translator
from transformer.evaluation.comparison import (
    by_frequency,
    by_length,
    differences,
    exact_matches,
    paired_scores,
    require_same_text,
    word_counts,
    words_of,
)
from transformer.evaluation.scored import Scored, read_scored, write_scored
from transformer.toyland import generate

CUT = words_of("13a")


def damaged(text: str, share: float, random: random.Random) -> str:
    return " ".join(word if random.random() > share else "falsch" for word in text.split())


@pytest.fixture(scope="module")
def systems() -> tuple[list[Scored], list[Scored]]:
    """Two systems on 80 sentences of toyland; the second makes fewer mistakes."""
    chance, pairs = random.Random(1), list(generate("test", 80))
    one, other = (
        [Scored(pair.source, pair.target, damaged(pair.target, share, chance)) for pair in pairs]
        for share in (0.3, 0.1)
    )
    return one, other


# The file


def test_a_scored_text_comes_back_as_it_was_written(tmp_path, systems):
    odd = [*systems[0], Scored("", 'a "quoted" \\ text', "ä\t\u2028")]
    write_scored(tmp_path / "scored.jsonl", odd)
    assert read_scored(tmp_path / "scored.jsonl") == odd
    first = (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first) == asdict(odd[0])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"scored\.jsonl: there are no sentences"),
        ('{"source": "a", "reference": "b"}\n', r'line 1 is not a JSON object .*: "output" is nothing'),
        ('{"source": "a", "reference": "b", "output": "c"}\nx\n', r"line 2 is not JSON"),
    ],
)
def test_a_file_that_is_not_one_is_refused_by_line(text, error, tmp_path):
    (tmp_path / "scored.jsonl").write_text(text)
    with pytest.raises(ValueError, match=error):
        read_scored(tmp_path / "scored.jsonl")


def test_evaluate_writes_what_it_scores(tiny_run, tmp_path, capsys):
    path = tmp_path / "scored.jsonl"
    assert main(["evaluate", "--run", str(tiny_run), "--json", "--output", str(path)]) == 0
    scores, sentences = json.loads(capsys.readouterr().out), read_scored(path)
    examples = list(generate("test", 12))
    assert [each.source for each in sentences] == [example.source for example in examples]
    assert [each.reference for each in sentences] == [example.target for example in examples]
    outputs = [each.output for each in sentences]
    assert outputs == Translator.from_pretrained(tiny_run).translate([each.source for each in sentences])
    bleu = sacrebleu.corpus_bleu(outputs, [[each.reference for each in sentences]])
    assert scores["bleu"] == pytest.approx(bleu.score)


def test_evaluate_refuses_an_output_before_it_translates(tiny_run, tmp_path, capsys):
    for output, message in (
        (tmp_path / "no/scored.jsonl", f"there is no folder {tmp_path}/no"),
        (tmp_path, "not a plain file"),
    ):
        assert main(["evaluate", "--run", str(tiny_run), "--output", str(output)]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"transformer evaluate: error: {output}")
        assert message in error


# The figures


def test_scores_and_p_are_those_of_sacrebleus_own_command(systems, tmp_path):
    names = {"reference": [each.reference for each in systems[0]]}
    names |= {name: [each.output for each in system] for name, system in zip("AB", systems, strict=True)}
    for name, lines in names.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = "-m sacrebleu reference -i A B --paired-bs -m bleu chrf -w 4 -f text"
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = re.findall(r"([\d.]+) \([\d.]+ ± ([\d.]+)\)", done.stdout)  # BLEU and chrF of A, then of B
    probabilities = re.findall(r"\(p = ([\d.]+)\)", done.stdout)
    for number, score in enumerate(paired_scores(*systems, "13a")):
        for system in (0, 1):
            theirs = tuple(map(float, printed[2 * system + number]))
            assert (score.values[system], score.intervals[system]) == pytest.approx(theirs, abs=1e-4)
        assert score.p == pytest.approx(float(probabilities[number]), abs=1e-4)
        assert score.signature in done.stdout


def test_a_system_compared_with_itself_does_not_differ(systems):
    one = systems[0]
    for score in paired_scores(one, one, "13a"):
        assert score.values[0] == score.values[1]
        assert score.p == 1
    assert differences(one, one) == []


def test_each_sentence_is_in_one_row_by_length_and_each_row_is_its_own_bleu(systems):
    one, other = systems
    rows = list(by_length(one, other, "13a"))
    assert sum(row.size for row in rows) == len(one)
    lengths = [len(CUT(sentence.reference)) for sentence in one]
    for row in rows:
        chosen = [
            place for place, length in enumerate(lengths) if row.first <= length <= (row.last or length)
        ]
        assert row.size == len(chosen)
        for system, value in zip(systems, row.values, strict=True):
            bleu = sacrebleu.corpus_bleu(
                [system[place].output for place in chosen], [[one[place].reference for place in chosen]]
            )
            assert value == pytest.approx(bleu.score)


def test_words_are_counted_by_their_frequency_in_the_training_text():
    counts = Counter({"der": 1500, "Hund": 12, "schläft": 1})
    one = [Scored("", "der Hund schläft .", "der der Hund schläft .")]  # one «der» too many
    other = [Scored("", "der Hund schläft .", "der Katze ruht .")]
    rows = {(row.first, row.last): row for row in by_frequency(one, other, counts, CUT)}
    assert rows.keys() == {(0, 0), (1, 1), (10, 99), (1000, None)}
    assert all(row.size == 1 for row in rows.values())
    assert rows[1000, None].values == pytest.approx((100 * 2 / 3, 100))  # F1 of 1 of 2 and 1 of 1
    assert rows[10, 99].values == (100, 0)
    assert rows[1, 1].values == (100, 0)
    assert rows[0, 0].values == pytest.approx((100, 50))  # the stop, next to two words nobody has trained on
    assert word_counts(["der Hund.", "der"], CUT) == {"der": 2, "Hund": 1, ".": 1}


def test_the_sentences_that_differ_are_sorted_by_the_lead(systems):
    one, other = systems
    found = differences(one, other)
    leads = [each.values[1] - each.values[0] for each in found]
    assert leads == sorted(leads)
    assert len(found) == sum(left.output != right.output for left, right in zip(one, other, strict=True))
    best = found[-1]
    assert best.values[0] == pytest.approx(
        sacrebleu.sentence_chrf(best.one.output, [best.one.reference]).score
    )


def test_exact_matches_are_per_cent(systems):
    shares = [100 * sum(each.output == each.reference for each in system) / 80 for system in systems]
    assert exact_matches(*systems) == pytest.approx(tuple(shares))


def test_only_systems_on_the_same_text_can_be_compared(systems):
    one, other = systems
    with pytest.raises(ValueError, match=r"^the first system has 80 sentences and the second has 79"):
        require_same_text(one, other[:-1])
    changed = [*other[:5], replace(other[5], reference="x"), *other[6:]]
    with pytest.raises(ValueError, match=r"^sentence 6: the references of the two systems differ"):
        require_same_text(one, changed)


# The command


def test_two_files_are_compared(systems, tmp_path, capsys):
    for name, system in zip("ab", systems, strict=True):
        write_scored(tmp_path / f"{name}.jsonl", system)
    (tmp_path / "train.de").write_text("Der Hund schläft.\n" * 3)
    files = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert main(["compare", *files, "--train", str(tmp_path / "train.de"), "--show", "2"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"A  {files[0]}\nB  {files[1]}\n80 sentences\n")
    bleu, chrf = paired_scores(*systems, "13a")
    assert re.search(rf"^BLEU +{bleu.values[0]:.1f} ± .* {bleu.p:.4f}$", text, re.MULTILINE)
    for part in (bleu.signature, chrf.signature, "BLEU by length", "F1 of words by frequency", "exact match"):
        assert part in text
    assert text.count("source     ") == 4
    assert main(["compare", *files, "--show", "0"]) == 0
    without = capsys.readouterr()
    assert "F1 of words" not in without.out
    assert "source     " not in without.out
    assert "no table by frequency: pass --train" in without.err
    assert main(["compare", *files, "--data", "toyland:test"]) == 2
    assert "--data is for runs" in capsys.readouterr().err


def test_a_run_and_a_file_of_the_same_run_are_equal(tiny_run, tmp_path, capsys):
    path = tmp_path / "scored.jsonl"
    assert main(["evaluate", "--run", str(tiny_run), "--output", str(path)]) == 0
    capsys.readouterr()
    assert main(["compare", str(tiny_run), str(path)]) == 0
    text, told = capsys.readouterr()
    assert "12 sentences" in text
    assert "where A is" not in text
    assert "F1 of words by frequency" in text  # in the training text of the run
    assert f"translating toyland:test[:12] with {tiny_run}" in told


def test_a_training_text_that_is_gone_costs_one_table(tiny_run, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    config = (run / "config.yaml").read_text().replace("toyland:train[:60]", "nowhere/train")
    (run / "config.yaml").write_text(config)
    assert main(["compare", str(run), str(run), "--data", "toyland:test[:3]"]) == 0
    text, told = capsys.readouterr()
    assert "BLEU by length" in text
    assert "F1 of words" not in text
    assert "the training text cannot be read: no corpus at 'nowhere/train'" in told


def test_a_run_that_cannot_be_compared_is_refused_before_the_other_translates(tiny_run, tmp_path, capsys):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    settings = load_settings(other / "config.yaml")
    save_settings(
        replace(settings, task=None, model=replace(settings.model, kind="decoder_only")),
        other / "config.yaml",
    )
    assert main(["compare", str(tiny_run), str(other)]) == 2
    assert capsys.readouterr().err == (
        f"transformer compare: error: {other} was trained for language_model, not for translation\n"
    )
    assert main(["compare", str(tiny_run), "nowhere"]) == 2
    assert "translating" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--device cpu", "--data toyland:test", "--build m:f", "--task m:T"])
def test_options_for_runs_are_refused_with_two_files(option, systems, tmp_path, capsys):
    for name, scored in zip("ab", systems, strict=False):
        write_scored(tmp_path / name, scored)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *option.split()]) == 2
    assert capsys.readouterr().err == (
        f"transformer compare: error: {option.split()[0]} is for runs, but the two systems are files; "
        "leave it out\n"
    )


def test_mistakes_are_one_line(tiny_run, capsys):
    for arguments, message in (
        ([str(tiny_run)], "compare takes two systems, not 1"),
        ([str(tiny_run), "nowhere"], "nowhere: neither a run's folder"),
        ([str(tiny_run), str(tiny_run), "--show", "-1"], "--show is -1"),
        ([str(tiny_run), str(tiny_run), "--data", "nowhere"], "no corpus at 'nowhere'"),
    ):
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
