"""BLEU uses sacreBLEU's tokenizer for the target language, and a run keeps the tokenizer it started with."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import sacrebleu
from fixtures_run import events, tiny_settings
from sacrebleu.metrics.bleu import BLEU

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.pretrained import load_run
from transformer.cli import main
from transformer.config import BleuTokenizer, DataConfig
from transformer.config.files import load_settings
from transformer.evaluation import bleu
from transformer.evaluation.bleu import TOKENIZER_OF, choose_tokenizer, make_bleu, signature
from transformer.evaluation.metrics import corpus_scores
from transformer.recipe import train
from transformer.tasks.translation import TranslationTask

CHINESE = ["今天天气很好。", "我想喝一杯茶。", "他昨天去了北京。", "这本书很有意思。"]
HYPOTHESES = ["今天天气很好。", "我想喝一杯水。", "他昨天去北京了。", "那本书有意思。"]


@pytest.fixture
def without_mecab(monkeypatch: pytest.MonkeyPatch) -> None:
    import sacrebleu.tokenizers.tokenizer_ja_mecab as japanese

    monkeypatch.setattr(japanese, "MeCab", None)


def test_the_names_are_sacrebleus_own() -> None:
    assert set(get_args(BleuTokenizer)) <= set(BLEU.TOKENIZERS)
    assert TOKENIZER_OF == BLEU._TOKENIZER_MAP


@pytest.mark.parametrize(
    ("target", "language"),
    [
        *(
            ("zh", "zh"),
            ("zh-CN", "zh"),
            ("zh_Hans", "zh"),
            ("ZH-tw", "zh"),
            ("zho_Hant", "zh"),
            ("cmn", "zh"),
        ),
        *(("ja", "ja"), ("ja-JP", "ja"), ("jpn_Jpan", "ja"), ("ko", "ko"), ("kor_Hang", "ko")),
        *(("de", "de"), ("kok", "kok"), ("jav", "jav"), ("target", "target"), ("parse", "parse"), ("", "")),
    ],
)
def test_the_tokenizer_is_sacrebleus_choice_for_the_language(
    target: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bleu, "make_bleu", lambda _: None)  # as if everything were installed
    assert choose_tokenizer(DataConfig(target=target)) == BLEU._TOKENIZER_MAP.get(language, "13a")
    assert choose_tokenizer(DataConfig(target=target, bleu_tokenizer="intl")) == "intl"


def test_japanese_words_are_mecabs_where_it_is_installed() -> None:
    pytest.importorskip("MeCab")
    assert choose_tokenizer(DataConfig(target="ja")) == "ja-mecab"
    scores = corpus_scores(["猫が好きです。"], ["猫が好きです。"], "ja-mecab")
    assert scores.bleu == pytest.approx(100)
    assert "|tok:ja-mecab-" in scores.bleu_signature


@pytest.mark.usefixtures("without_mecab")
def test_characters_take_the_place_of_a_tokenizer_that_is_not_installed() -> None:
    assert choose_tokenizer(DataConfig(target="ja")) == "char"
    message = r"tokenizer ja-mecab \(data\.bleu_tokenizer\) .*; pip install 'sacrebleu\[ja\]'$"
    with pytest.raises(ValueError, match=message):
        make_bleu("ja-mecab")


def test_an_unknown_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^sacreBLEU has no tokenizer 'zg'; choose one of 13a, zh, "):
        make_bleu("zg")


@pytest.mark.parametrize("tokenizer", ["13a", "zh", "ja-mecab", "char", "intl", "none"])
def test_scores_are_sacrebleus_with_its_signature(tokenizer: str) -> None:
    scores = corpus_scores(HYPOTHESES, CHINESE, tokenizer)
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [CHINESE], tokenize=tokenizer)
    assert scores.bleu == pytest.approx(expected.score)
    assert f"|tok:{tokenizer}" in scores.bleu_signature  # MeCab's version follows
    assert scores.bleu_signature == signature(tokenizer)
    assert scores.bleu > 20 or tokenizer in ("13a", "intl", "none")


# Runs


def chinese_settings(folder: Path, output: str = "run", **data: Any) -> Any:
    """Settings with Chinese as the target language, which only matters for the choice of BLEU's tokenizer."""
    for split, times in (("train", 40), ("valid", 1)):
        for language, lines in (("en", ["the tea", "the book", "the day", "he went"]), ("zh", CHINESE)):
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines) * times)
    text = {
        name: str(folder / split)
        for name, split in (("train", "train"), ("valid", "valid"), ("test", "valid"))
    }
    data = {**text, "source": "en", "target": "zh", "vocab_size": 310, **data}
    return tiny_settings(folder / output, data=data, max_steps=2, valid_every=2)


def longer(settings: Any) -> Any:
    return replace(settings, training=replace(settings.training, max_steps=4))


@pytest.fixture
def chinese_run(tmp_path: Path) -> Path:
    return train(chinese_settings(tmp_path))


def edit_config(run: Path, old: str, new: str) -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new))


def test_validation_and_evaluation_use_what_the_run_records(chinese_run: Path, capsys: Any) -> None:
    settings = load_settings(chinese_run / "config.yaml")
    assert settings.data.bleu_tokenizer == "zh"
    assert events(chinese_run, "data")[0]["bleu_signature"] == signature("zh")

    class Fixed:
        def translate(self, lines: list[str], **_: Any) -> list[str]:
            return HYPOTHESES[: len(lines)]

    model, tokenizer, _ = load_run(chinese_run, task="translation")
    settings = replace(settings, training=replace(settings.training, valid_sample=4))
    validation = TranslationTask.validation(str(settings.data.valid), tokenizer, settings)
    figures = replace(validation, translator=lambda _: Fixed())(model)
    assert figures["bleu"] == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [CHINESE], tokenize="zh").score)

    for options, expected in (([], "zh"), (["--bleu-tokenizer", "char"], "char")):
        assert main(["evaluate", "--run", str(chinese_run), "--json", *options]) == 0
        assert json.loads(capsys.readouterr().out)["bleu_signature"] == signature(expected)
        assert main(["evaluate", "--run", str(chinese_run), *options]) == 0
        assert signature(expected) in capsys.readouterr().out


def test_a_resumed_run_takes_the_recorded_tokenizer(chinese_run: Path, tmp_path: Path) -> None:
    """For example `char`, if the run began on a machine without the language's own tokenizer."""
    edit_config(chinese_run, "bleu_tokenizer: zh", "bleu_tokenizer: char")
    settings = longer(chinese_settings(tmp_path))
    assert settings.data.bleu_tokenizer is None
    train(settings, resume=True)
    assert load_settings(chinese_run / "config.yaml").data.bleu_tokenizer == "char"
    assert [event["bleu_signature"] for event in events(chinese_run, "data")] == [
        signature("zh"),
        signature("char"),
    ]
    asked = longer(chinese_settings(tmp_path, bleu_tokenizer="intl"))
    with pytest.raises(
        CheckpointError, match=r"bleu_tokenizer 'char', not 'intl', and it decides which checkpoint"
    ):
        train(asked, resume=True)


@pytest.mark.usefixtures("without_mecab")
def test_a_recorded_tokenizer_that_is_not_installed_is_named(
    chinese_run: Path, tmp_path: Path, capsys: Any
) -> None:
    edit_config(chinese_run, "bleu_tokenizer: zh", "bleu_tokenizer: ja-mecab")
    with pytest.raises(ValueError, match=r"ja-mecab .*pip install 'sacrebleu\[ja\]'$"):
        train(longer(chinese_settings(tmp_path)), resume=True)
    capsys.readouterr()
    assert main(["evaluate", "--run", str(chinese_run)]) == 2
    assert re.search(r"error: .*pip install 'sacrebleu\[ja\]'\n$", capsys.readouterr().err)
    assert main(["evaluate", "--run", str(chinese_run), "--bleu-tokenizer", "zh"]) == 0


def test_a_run_from_before_the_setting_continues_with_13a(
    chinese_run: Path, tmp_path: Path, capsys: Any
) -> None:
    edit_config(chinese_run, "  bleu_tokenizer: zh\n", "")
    capsys.readouterr()
    assert main(["evaluate", "--run", str(chinese_run), "--json"]) == 0
    assert "tok:zh" in json.loads(capsys.readouterr().out)["bleu_signature"]
    train(longer(chinese_settings(tmp_path)), resume=True)
    assert load_settings(chinese_run / "config.yaml").data.bleu_tokenizer == "13a"


def test_tasks_without_bleu_record_none_and_continue(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the clock strikes\n" * 50)
    data = {"train": str(tmp_path / "text"), "valid": None, "test": None, "tokenizer": "characters"}
    settings = tiny_settings(tmp_path / "run", data={**data, "context": 16}, max_steps=2)
    settings = replace(settings, model=replace(settings.model, kind="decoder_only"))
    run = train(settings)
    train(longer(settings), resume=True)
    assert load_settings(run / "config.yaml").data.bleu_tokenizer is None


def test_a_tokenizer_of_bleu_is_for_translations(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "text").write_text("the clock strikes\n" * 50)
    data = {"train": str(tmp_path / "text"), "valid": None, "test": str(tmp_path / "text"), "context": 16}
    settings = tiny_settings(tmp_path / "run", data={**data, "tokenizer": "characters"}, max_steps=1)
    run = train(replace(settings, model=replace(settings.model, kind="decoder_only")))
    capsys.readouterr()
    assert main(["evaluate", "--run", str(run), "--bleu-tokenizer", "zh"]) == 2
    assert "--bleu-tokenizer is for translations" in capsys.readouterr().err
