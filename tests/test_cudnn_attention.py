"""CuDNN's attention, which plans again for every new shape, is off when the package runs a model on a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures_run import tiny_settings
from torch.backends.cuda import cudnn_sdp_enabled, enable_cudnn_sdp

from transformer.checkpoint.pretrained import load_run
from transformer.config import ModelConfig, Settings
from transformer.data.tokenizers.characters import train_character_tokenizer
from transformer.decoding.generator import TextGenerator
from transformer.decoding.predictors import Reader
from transformer.decoding.translator import Translator
from transformer.hardware import without_cudnn_attention
from transformer.model.build import build_model
from transformer.recipe import dry_run, train
from transformer.tasks.translation import TranslationTask


@pytest.fixture(autouse=True)
def preferred():
    """Torch's default on a Hopper GPU; the package must leave it unchanged for the rest of the process."""
    before = cudnn_sdp_enabled()
    enable_cudnn_sdp(True)
    yield
    assert cudnn_sdp_enabled()
    enable_cudnn_sdp(before)


@pytest.fixture
def seen():
    """The state of the switch in each forward pass of a model made by `watched`."""
    return []


@pytest.fixture
def watched(seen):
    def build(config):
        model = build_model(config)
        for module in model.modules():
            module.register_forward_pre_hook(lambda *_: seen.append(cudnn_sdp_enabled()))
        return model

    return build


def test_it_is_put_back_after_an_error():
    def fail():
        with without_cudnn_attention():
            assert not cudnn_sdp_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_if_the_user_has_switched_it_off_it_stays_off():
    enable_cudnn_sdp(False)
    with without_cudnn_attention():
        assert not cudnn_sdp_enabled()
    assert not cudnn_sdp_enabled()
    enable_cudnn_sdp(True)


@pytest.mark.parametrize("run", [train, dry_run])
def test_training_is_without_it(run, watched, seen, tmp_path):
    run(tiny_settings(tmp_path / "run", max_steps=2, valid_every=2), build=watched)
    assert seen
    assert not any(seen)


USES = {
    "translation": lambda each: each.translate(["the old man sees a dog"]),
    "sampling": lambda each: each.translate_n_best(["the old man"], n_best=2, beam_size=2),
    "scores": lambda each: each.score(["the old man"], ["der alte Mann"]),
    "alignment": lambda each: each.align(
        ["the old man"], each.translate_n_best(["the old man"], n_best=1)[0]
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_translator_is_without_it(use, watched, seen, tiny_run):
    use(Translator.from_pretrained(tiny_run, build=watched, device="cpu"))
    assert seen
    assert not any(seen)


def test_an_evaluation_is_without_it(watched, seen, tiny_run):
    model, tokenizer, settings = load_run(tiny_run, task="translation", build=watched, device="cpu")
    settings = replace(settings, training=replace(settings.training, valid_sample=0))
    TranslationTask.validation("toyland:valid[:4]", tokenizer, settings)(model)
    assert seen
    assert not any(seen)


def test_so_are_the_other_models(watched, seen):
    tokenizer = train_character_tokenizer(["abc"])
    sizes = {"vocab_size": tokenizer.vocab_size, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1}
    generator = TextGenerator(watched(ModelConfig(kind="decoder_only", **sizes)).eval(), tokenizer)
    generator.continue_text("ab", max_length=3)
    encoder = watched(ModelConfig(kind="encoder_only", **sizes)).eval()
    list(Reader(encoder, tokenizer, Settings()).outputs([np.array([4, 5, 2])]))
    assert seen
    assert not any(seen)
