"""The Moses tokenizer: tokens can be joined again, and BLEU is computed on them."""

import math
import pickle
from collections import Counter
from dataclasses import replace

import pytest
from fixtures_run import tiny_settings

from transformer.cli import main
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.moses import MosesTokenizer, Words, train_moses_tokenizer
from transformer.evaluation.metrics import tokenized_bleu
from transformer.recipe import train

pytest.importorskip("sacremoses")

SOURCES = ["A man, old and grey, doesn't wait.", "Two dogs run (fast)!", "The red-haired girl says: “Yes.”"]
TARGETS = ["Ein Mann, alt und grau, wartet nicht.", "Zwei Hunde rennen (schnell)!", "Das Mädchen sagt: „Ja.“"]


@pytest.fixture(scope="module")
def tokenizer() -> MosesTokenizer:
    return train_moses_tokenizer(SOURCES * 5, TARGETS * 5, vocab_size=330, source="en", target="de")


def test_words_are_cut_in_small_letters():
    assert Words("en").cut(SOURCES[0]) == "a man , old and grey , doesn 't wait ."
    assert Words("de").cut(TARGETS[2]) == 'das mädchen sagt : " ja . "'
    assert Words("en").cut("  ") == ""


def test_decoding_joins_the_words_again_in_small_letters(tokenizer):
    expected = ["ein mann, alt und grau, wartet nicht.", "zwei hunde rennen (schnell)!"]
    assert tokenizer.decode(tokenizer.encode_target(TARGETS[:2])) == expected


def test_each_side_has_the_rules_of_its_language(tokenizer):
    line = "Er kam am 3. Mai."  # an ordinal in German, the end of a sentence in English
    cut = [Words(language).cut(line) for language in ("en", "de")]
    assert cut[0] != cut[1]
    ids = tokenizer.encode([line])[0], tokenizer.encode_target([line])[0]
    assert [tokenizer.subwords.decode([each])[0] for each in ids] == cut


def test_a_tokenizer_comes_back_from_its_file_and_from_another_process(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    for again in (load_tokenizer(tmp_path / "tokenizer.model"), pickle.loads(pickle.dumps(tokenizer))):
        assert isinstance(again, MosesTokenizer)
        assert again.digest == tokenizer.digest
        assert again.encode(SOURCES) == tokenizer.encode(SOURCES)


@pytest.mark.parametrize(
    "content", [b'{"kind": "moses"}', b'{"kind": "moses", "languages": ["en", "de"], "model": "=x"}']
)
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ValueError, match="not a tokenizer of Moses' words, or a damaged one"):
        load_tokenizer(tmp_path / "tokenizer.model")


def test_bleu_is_that_of_the_words():
    hypothesis, reference = "a b c d e", "a b c d f"
    grams = [
        [Counter(zip(*(text.split()[shift:] for shift in range(n)), strict=False)) for n in range(1, 5)]
        for text in (hypothesis, reference)
    ]
    matches = [(mine & theirs).total() / mine.total() for mine, theirs in zip(*grams, strict=True)]
    expected = 100 * math.exp(sum(map(math.log, matches)) / 4)
    score, signature = tokenized_bleu([hypothesis.upper()], [reference], str.lower)
    assert score == pytest.approx(expected)
    assert "tok:none" in signature


def test_a_run_trains_and_is_scored(tmp_path, capsys):
    for language, lines in (("en", SOURCES), ("de", TARGETS)):
        (tmp_path / f"t.{language}").write_text("\n".join(lines * 10) + "\n")
    name = str(tmp_path / "t")
    settings = tiny_settings(
        tmp_path / "run",
        data={"train": name, "valid": None, "test": f"{name}[:3]", "vocab_size": 330, "tokenizer": "moses"},
        max_steps=2,
    )
    run = train(settings)
    assert main(["evaluate", "--run", str(run), "--device", "cpu"]) == 0
    assert "BLEU of lower-cased Moses tokens" in capsys.readouterr().out


def test_only_translation_takes_it(tmp_path):
    settings = tiny_settings(tmp_path / "run", data={"tokenizer": "moses"})
    model = replace(settings.model, kind="decoder_only")
    (tmp_path / "text").write_text("some text\n" * 50)
    data = replace(settings.data, train=str(tmp_path / "text"), valid=None)
    with pytest.raises(ValueError, match=r"data\.tokenizer moses works only for translation"):
        train(replace(settings, model=model, data=data))
