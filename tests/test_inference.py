"""A frozen model computes without autograd; a model being trained can still be trained after translating."""

import torch
from helpers import assert_close, tiny_model
from torch import nn

from transformer.checkpoint.pretrained import load_run
from transformer.decoding.inference import freeze, without_gradients
from transformer.decoding.translator import Translator
from transformer.kernels import linear as packed


class Remembering(nn.Linear):
    """Caches a tensor in its first forward pass, like a module that fills a table lazily."""

    kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = self.weight * 2
        return x @ self.kept.T


def recording_inference(model):
    """Records for each call of the model's last layer whether it ran in inference mode."""
    found = []
    model.output.register_forward_hook(lambda _, __, y: found.append(y.is_inference()))
    return found


def test_what_is_loaded_to_translate_is_frozen_and_decodes_in_inference_mode(tiny_run):
    translator = Translator.from_pretrained(tiny_run, device="cpu")
    assert not any(parameter.requires_grad for parameter in translator.model.parameters())
    found = recording_inference(translator.model)
    translator.translate(["the dog sleeps ."])
    assert set(found) == {True}


def test_scores_are_computed_in_inference_mode_and_are_those_of_the_trained_model(tiny_run, monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "SMALL", 1)
    frozen = Translator.from_pretrained(tiny_run, device="cpu")
    plain, tokenizer, settings = load_run(tiny_run, task="translation", device="cpu")
    translator = Translator(plain, tokenizer, model_config=settings.model)
    pairs = ["the dog sleeps .", "a cat", ""], ["der Hund schläft .", "", "eine Katze ."]
    found = recording_inference(frozen.model)
    for ours, theirs in zip(frozen.score(*pairs), translator.score(*pairs), strict=True):
        assert_close(torch.tensor(ours.tokens), torch.tensor(theirs.tokens))
    assert set(found) == {True}


def test_a_model_that_is_trained_can_be_trained_after_a_translation(tiny_run):
    loaded = Translator.from_pretrained(tiny_run, device="cpu")
    model = loaded.model.requires_grad_(True)
    model.output = Remembering(model.output.in_features, model.output.out_features)
    found = recording_inference(model)
    translator = Translator(model, loaded.tokenizer, model_config=loaded.config)
    translator.translate(["the dog sleeps ."])
    assert set(found) == {False}
    model(torch.tensor([[5, 6, 2]]), torch.tensor([[1, 5, 6]])).sum().backward()


def test_a_model_that_is_loaded_in_inference_mode_can_be_trained_and_packed(tiny_run):
    with torch.inference_mode():
        loaded = load_run(tiny_run, task="translation", device="cpu")
        translator = Translator.from_pretrained(tiny_run, device="cpu")
    for model in (loaded.model, translator.model):
        assert not any(parameter.is_inference() for parameter in model.parameters())
    loaded.model(torch.tensor([[5, 6, 2]]), torch.tensor([[1, 5, 6]])).sum().backward()


def test_a_model_that_was_made_in_inference_mode_can_be_frozen(monkeypatch):
    monkeypatch.setattr(packed, "SMALLEST", 1)
    with torch.inference_mode():
        model = tiny_model()
        tokens = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 2]])
        expected = model(tokens, tokens)
        freeze(model)
        with without_gradients(model):
            assert_close(model(tokens, tokens), expected)
