"""Custom tokenizers and two vocabularies: trained with, saved with the run, and read back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_run import TINY_MODEL, events, tiny_settings

from transformer.config import DataConfig, ModelConfig, Settings
from transformer.data.tokenizers.custom import CustomTokenizer
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.pair import PairTokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.translator import Translator
from transformer.model.build import build_model
from transformer.recipe import train
from transformer.tasks.translation import TranslationTask
from transformer.trained import evaluate, load_pretrained


@dataclass
class Words(CustomTokenizer):
    """A token for each word."""

    words: list[str]

    @property
    def pieces(self) -> list[str]:
        return ["<pad>", "<s>", "</s>", "<unk>", *self.words]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        ids = {word: number for number, word in enumerate(self.pieces)}
        return [[ids.get(word, 3) for word in line.split()] for line in lines]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(self.pieces[number] for number in row if number > 3) for row in ids]


class WordTask(TranslationTask):
    def train_tokenizer(self) -> Tokenizer:
        return Words(
            sorted(
                {word for side in ("source", "target") for line in self.side(side) for word in line.split()}
            )
        )


def test_a_custom_tokenizer_is_saved_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny_settings(tmp_path / "run", max_steps=2), task=WordTask)
    run = train(tiny_settings(tmp_path / "run", max_steps=3), task=WordTask, resume=True)
    tokenizer = load_tokenizer(run / "tokenizer.model")
    assert isinstance(tokenizer, Words)
    assert isinstance(tokenizer, Tokenizer)
    line = " ".join(tokenizer.words[:3])
    assert tokenizer.decode(tokenizer.encode([line])) == [line]
    assert load_pretrained(run, task=WordTask).settings.model.vocab_size == 4 + len(tokenizer.words)
    assert len(Translator.from_pretrained(run).translate([line, ""])) == 2
    assert evaluate(run, task=WordTask)["sentences"] == 12
    monkeypatch.delitem(CustomTokenizer.known, f"{__name__}:Words")
    with pytest.raises(
        ValueError, match=rf"tokenizer.model: a tokenizer of the class {__name__}:Words; import {__name__}"
    ):
        Translator.from_pretrained(run)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"kind": "custom", "class": 7', "not a custom tokenizer, or a damaged one"),
        ('{"kind": "custom", "fields": {}}', "not a custom tokenizer, or a damaged one"),
        (f'{{"kind": "custom", "class": "{__name__}:Words", "fields": {{"x": 1}}}}', "not have the fields"),
    ],
)
def test_a_damaged_custom_tokenizer_is_refused(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text(content)
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(tmp_path / "tokenizer.model")


# Two vocabularies


def two_vocabularies(output: Path, **training: Any) -> Settings:
    return tiny_settings(output, data={"vocab_size": 330, "target_vocab_size": 350}, **training)


def test_two_vocabularies_are_trained_resumed_and_used(tmp_path: Path) -> None:
    whole = train(two_vocabularies(tmp_path / "whole"))
    train(two_vocabularies(tmp_path / "parts", max_steps=4))
    parts = train(two_vocabularies(tmp_path / "parts"), resume=True)
    assert events(parts, "train")[-1]["loss"] == events(whole, "train")[-1]["loss"]
    model, tokenizer, settings = load_pretrained(whole)
    assert isinstance(tokenizer, PairTokenizer)
    assert (tokenizer.source.vocab_size, tokenizer.target.vocab_size) == (330, 350)
    assert (settings.model.source_vocab_size, settings.model.vocab_size) == (330, 350)
    assert model.encoder.embedding.embedding.weight.shape == (330, 16)
    assert model.decoder.embedding.embedding.weight.shape == (350, 16)
    assert model.output.weight is model.decoder.embedding.embedding.weight
    text = "The old man sees a dog."
    assert tokenizer.source.decode(tokenizer.encode([text])) == [text]
    assert tokenizer.decode(tokenizer.encode_target([text])) == [text]
    assert tokenizer.encode([text]) != tokenizer.encode_target([text])
    translator = Translator.from_pretrained(whole)
    [[found]] = translator.translate_n_best([text], n_best=1)
    assert all(source < 6 for source, _ in translator.align([text], [found])[0])  # six words, "." is one
    assert evaluate(whole)["sentences"] == 12


def test_two_vocabularies_are_for_translation_with_tokenizers_of_one_language() -> None:
    with pytest.raises(ValueError, match=r"moses has one vocabulary for both languages"):
        DataConfig(tokenizer="moses", target_vocab_size=400)
    with pytest.raises(ValueError, match=r"is for translation, but model\.kind is encoder_only"):
        Settings(
            model=replace(TINY_MODEL, kind="encoder_only"),
            data=DataConfig(target_vocab_size=400, max_tokens=64),
        )
    with pytest.raises(ValueError, match=r"target_vocab_size is -1; it must be null"):
        DataConfig(target_vocab_size=-1)


# Depth and tying


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("source", [None, 40])
@pytest.mark.parametrize("layers", [None, 1, 3])
def test_depths_and_vocabularies_of_the_two_stacks(tie: bool, source: int | None, layers: int | None) -> None:
    config = ModelConfig(
        vocab_size=50,
        d_model=8,
        num_heads=2,
        d_ff=16,
        num_layers=2,
        tie_embeddings=tie,
        source_vocab_size=source,
        num_decoder_layers=layers,
        positions="learned",
        max_positions=9,
    )
    model = build_model(config)
    assert (len(model.encoder.blocks), len(model.decoder.blocks)) == (2, layers or 2)
    assert sum(p.numel() for p in model.parameters() if p.ndim > 1) == config.num_weights
    assert (model.output.weight is model.decoder.embedding.embedding.weight) is tie
    shared = model.encoder.embedding.embedding.weight is model.decoder.embedding.embedding.weight
    assert shared is (tie and source is None)
    logits = model(torch.tensor([[(source or 50) - 1, 2]]), torch.tensor([[1, 49]]))
    assert logits.shape == (1, 2, 50)


@pytest.mark.parametrize("name", ["source_vocab_size", "num_decoder_layers"])
def test_settings_of_two_stacks_are_for_two_stacks(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"model\.{name} is for model\.kind encoder_decoder, not decoder_only"
    ):
        ModelConfig(kind="decoder_only", **{name: 4})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"model\.{name} is 0; it must be null or greater than 0"):
        ModelConfig(**{name: 0})  # type: ignore[arg-type]
