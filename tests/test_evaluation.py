"""Scores equal sacreBLEU's, and the tables add up."""

import pytest
import sacrebleu

from transformer.evaluation.metrics import corpus_scores, exact_match
from transformer.evaluation.report import examples, phenomenon_rows, phenomenon_table, score_table
from transformer.toyland import PHENOMENA, dictionary_translation, generate

REFERENCES = ["Die Uhr schlägt sieben.", "Der Hund schläft nicht.", "Wo ist das Buch?", "Ja."]
HYPOTHESES = ["Die Uhr schlägt sieben.", "Der hund schläft nicht.", "Wo ist ein Buch?", ""]


@pytest.fixture(scope="module")
def toyland():
    return list(generate("test", 150))


def test_bleu_and_chrf_are_sacrebleus_own_with_their_signatures():
    scores = corpus_scores(HYPOTHESES, REFERENCES)
    assert scores.bleu == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    version = f"version:{sacrebleu.__version__}"
    assert scores.bleu_signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert scores.chrf_signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
    assert (scores.sentences, scores.exact_match) == (4, 25.0)


def test_a_perfect_translation_has_the_highest_scores():
    scores = corpus_scores(REFERENCES, REFERENCES)
    assert (scores.bleu, scores.chrf, scores.exact_match) == pytest.approx((100, 100, 100))


def test_scores_need_a_reference_for_each_hypothesis():
    with pytest.raises(TypeError, match="not one string"):
        corpus_scores("Ja.", ["Ja."])
    with pytest.raises(TypeError, match="not one string"):
        corpus_scores(["Ja."], "Ja.")
    with pytest.raises(ValueError, match=r"^there are 1 hypotheses for 2 references"):
        corpus_scores(["Ja."], ["Ja.", "Nein."])


def test_exact_match_counts_equal_lines_alone():
    assert exact_match(["a", "B", "c "], ["a", "b", "c"]) == pytest.approx(100 / 3)
    assert exact_match([], []) == 0
    with pytest.raises(ValueError, match="zip"):
        exact_match(["a"], [])


def test_the_table_by_phenomenon_adds_up(toyland):
    sources = [example.source for example in toyland]
    references = [example.target for example in toyland]
    phenomena = [example.phenomena for example in toyland]
    hypotheses = [text if row % 3 else "falsch" for row, text in enumerate(references)]
    rows = list(phenomenon_rows(sources, hypotheses, references, phenomena))
    assert [row.phenomenon for row in rows] == [*PHENOMENA, "all"]
    for row in rows[:-1]:
        chosen = [number for number, tags in enumerate(phenomena) if row.phenomenon in tags]
        right = sum(number % 3 > 0 for number in chosen)
        assert row.sentences == len(chosen)
        assert row.exact_match == pytest.approx(100 * right / max(1, len(chosen)))
    assert rows[-1].sentences == len(toyland)
    assert rows[-1].exact_match == exact_match(hypotheses, references)
    assert sum(row.sentences for row in rows[:-1]) == sum(len(tags) for tags in phenomena)


def test_the_dictionary_is_listed_next_to_the_model(toyland):
    sources = [example.source for example in toyland]
    references = [example.target for example in toyland]
    word_for_word = [dictionary_translation(source) for source in sources]
    rows = list(phenomenon_rows(sources, references, references, [e.phenomena for e in toyland]))
    assert rows[-1].dictionary == exact_match(word_for_word, references)
    assert all(row.exact_match == 100 for row in rows if row.sentences)
    lines = phenomenon_table(rows).splitlines()
    assert lines[0].split() == ["phenomenon", "sentences", "exact", "match", "word", "for", "word"]
    assert len(lines) == len(rows) + 1
    assert len({len(line) for line in lines}) == 1
    assert lines[-1].split() == ["all", "150", "100.0", "%", f"{rows[-1].dictionary:.1f}", "%"]


def test_the_score_table_shows_every_figure_with_its_signature():
    scores = corpus_scores(HYPOTHESES, REFERENCES)
    text = score_table(scores)
    for part in (f"{scores.bleu:.1f}", scores.bleu_signature, scores.chrf_signature, "25.0 %", "exact match"):
        assert part in text


def test_examples_show_right_ones_then_wrong_ones_with_the_answer():
    shown = list(examples(["s0", "s1", "s2", "s3"], ["a", "x", "c", "y"], ["a", "b", "c", "d"], 1))
    assert [line.split()[0] for line in shown[0].splitlines()] == ["source", "right"]
    assert [line.split()[1] for line in shown[1].splitlines()] == ["s1", "x", "b"]
    assert len(shown) == 2
    assert not list(examples(["s"], ["a"], ["a"], 0))
