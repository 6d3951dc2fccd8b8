"""Objects from `from_pretrained` give the same answers when pickled, copied or sent to another process."""

import copy
import importlib.util
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch
from fixtures_run import tiny_settings
from helpers import tiny_config

from transformer import Translator, train
from transformer.checkpoint.pretrained import load_run
from transformer.convert.engine import CTranslate2Translator
from transformer.data.tokenizers.characters import train_character_tokenizer
from transformer.data.tokenizers.marian import MarianTokenizer
from transformer.data.tokenizers.moses import train_moses_tokenizer
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.decoding.generator import TextGenerator
from transformer.decoding.predictors import Classifier, Embedder, MaskFiller
from transformer.kernels import linear as packed
from transformer.model.build import build_model
from transformer.tasks.translation import TranslationTask

LINES = ["The old man sleeps.", "", "A dog sees the red house and sleeps."]

TASKS = {
    "language_model": {"kind": "decoder_only"},
    "classification": {"kind": "encoder_only", "train": "labelled", "label_format": "tab"},
    "masked_language_model": {"kind": "encoder_only"},
    "sentence_embedding": {"kind": "encoder_only", "train": "toyland:train[:60]", "vocab_size": 330},
}


@pytest.fixture(scope="module")
def runs(tiny_run, tmp_path_factory):
    """A run of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "plain").write_text("The old man sleeps.\nA dog sees the red house.\n" * 20)
    (folder / "labelled").write_text("The old man sleeps.\tman\nA dog sees the red house.\tdog\n" * 20)
    found = {"translation": tiny_run}
    for task, changes in TASKS.items():
        options = {"train": "plain", **changes}
        kind, text = options.pop("kind"), options.pop("train")
        text = text if ":" in text else str(folder / text)
        data = {"vocab_size": 290, **options, "train": text, "valid": None, "test": None}
        settings = tiny_settings(folder / task, data=data, max_steps=1)
        settings = replace(settings, task=task, model=replace(settings.model, kind=kind))
        found[task] = train(settings)
    return found


LOADED = {
    "translator": lambda runs: Translator.from_pretrained(runs["translation"]),
    "bfloat16 translator": lambda runs: Translator.from_pretrained(runs["translation"], precision="bfloat16"),
    "ensemble": lambda runs: Translator.from_pretrained([runs["translation"]] * 2),
    "generator": lambda runs: TextGenerator.from_pretrained(runs["language_model"]),
    "classifier": lambda runs: Classifier.from_pretrained(runs["classification"]),
    "mask filler": lambda runs: MaskFiller.from_pretrained(runs["masked_language_model"]),
    "embedder": lambda runs: Embedder.from_pretrained(runs["sentence_embedding"]),
    "pretrained": lambda runs: load_run(runs["translation"], task="translation"),
}
if importlib.util.find_spec("ctranslate2"):
    LOADED["CTranslate2"] = lambda runs: CTranslate2Translator.from_pretrained(runs["translation"])


def answer(loaded):
    """Its output for `LINES` as plain values; also called in a spawned process."""
    if isinstance(loaded, Translator | CTranslate2Translator):
        return [list(map(tuple, row)) for row in loaded.translate_n_best(LINES, n_best=2)]
    if isinstance(loaded, TextGenerator):
        return loaded.continue_text("The old", max_length=9)
    if isinstance(loaded, Classifier):
        return loaded.classify(LINES)
    if isinstance(loaded, MaskFiller):
        return loaded.fill(["The <mask> man sleeps."], count=3)
    if isinstance(loaded, Embedder):
        return loaded.embed(LINES).tolist()
    translator = Translator(loaded.model, loaded.tokenizer, model_config=loaded.settings.model)
    return repr(loaded.settings), translator.translate(LINES)


def pack_everything():
    """In this process, pack even the smallest layers."""
    torch.set_num_threads(1)
    packed.SMALLEST = packed.SMALL = 1


@pytest.fixture(scope="module")
def spawned():
    """A function that calls `answer` in a spawned process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=pack_everything) as pool:
        yield lambda loaded: pool.submit(answer, loaded).result()


@pytest.mark.parametrize("name", LOADED)
def test_what_is_loaded_answers_the_same_in_another_process(monkeypatch, runs, spawned, name):
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "SMALL", 1)
    loaded = LOADED[name](runs)
    unused = pickle.dumps(loaded)
    expected = answer(loaded)
    assert answer(pickle.loads(unused)) == expected
    assert answer(pickle.loads(pickle.dumps(loaded))) == expected
    assert answer(copy.deepcopy(loaded)) == expected
    assert spawned(loaded) == expected
    assert answer(loaded) == expected  # after its weights were moved to shared memory


def test_a_pickled_translator_is_frozen_and_warns_as_before(runs, capsys):
    translator = Translator.from_pretrained(runs["translation"])
    again = pickle.loads(pickle.dumps(translator))
    assert not any(parameter.requires_grad for parameter in again.model.parameters())
    assert not again.model.training
    again.translate(["word " * 500])
    assert capsys.readouterr().err.startswith("warning: line 1 has ")


def test_a_copy_is_independent(runs):
    translator = Translator.from_pretrained(runs["translation"])
    expected = answer(translator)
    with torch.no_grad():
        for parameter in copy.deepcopy(translator).model.parameters():
            parameter.zero_()
    assert answer(translator) == expected


@pytest.mark.skipif("CTranslate2" not in LOADED, reason="ctranslate2 is not installed")
def test_an_engine_is_found_again_from_another_directory(monkeypatch, runs, tmp_path):
    monkeypatch.chdir(runs["translation"].parent)
    translator = CTranslate2Translator.from_pretrained(runs["translation"].name)
    expected, pickled = answer(translator), pickle.dumps(translator)
    monkeypatch.chdir(tmp_path)
    assert answer(pickle.loads(pickled)) == expected
    options = {"model_config": translator.config, "decoding": translator.decoding}
    own = CTranslate2Translator(translator.engine, translator.tokenizer, **options)
    assert answer(own) == expected
    with pytest.raises(
        TypeError, match="only a CTranslate2Translator made by from_pretrained can be pickled"
    ):
        pickle.dumps(own)


SENTENCES = ["the old man sleeps .", "a dog sees the red house"] * 20


def marian_tokenizer():
    model = train_tokenizer(SENTENCES, vocab_size=290, normalization="identity")
    content, pieces = model.processor.serialized_model_proto(), model.pieces
    return MarianTokenizer(content, content, pieces, range(len(pieces)))


TOKENIZERS = {
    "sentencepiece": lambda: train_tokenizer(SENTENCES, vocab_size=290, normalization="identity"),
    "characters": lambda: train_character_tokenizer(SENTENCES),
    "moses": lambda: train_moses_tokenizer(SENTENCES, SENTENCES, vocab_size=290, source="en", target="de"),
    "marian": marian_tokenizer,
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_translator_with_any_tokenizer_can_be_pickled(name):
    if name == "moses":
        pytest.importorskip("sacremoses")
    tokenizer = TOKENIZERS[name]()
    config = tiny_config(vocab_size=tokenizer.vocab_size, max_positions=64)
    translator = Translator(build_model(config), tokenizer, model_config=config)
    for again in (pickle.loads(pickle.dumps(translator)), copy.deepcopy(translator)):
        assert again.tokenizer.digest == tokenizer.digest
        assert again.tokenizer.encode(LINES) == tokenizer.encode(LINES)
        assert again.tokenizer.encode_target(LINES) == tokenizer.encode_target(LINES)
        assert again.tokenizer.pieces == tokenizer.pieces
        assert answer(again) == answer(translator)


def test_a_validation_can_be_pickled(runs):
    run = load_run(runs["translation"], task="translation")
    validation = TranslationTask.validation("toyland:valid[:20]", run.tokenizer, run.settings)
    assert pickle.loads(pickle.dumps(validation))(run.model) == validation(run.model)
