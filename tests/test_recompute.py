"""`training.recompute`: the same training, with less memory."""

from dataclasses import replace

import pytest
import torch
from fixtures_run import events, tiny_settings
from torch import nn

from transformer.checkpoint.format import MODEL, OPTIMIZER
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import ModelConfig
from transformer.model.build import build_model
from transformer.recipe import train
from transformer.training.layers import recompute_layers
from transformer.training.objectives import Loss, in_precision


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_is_the_same_to_the_last_digit(dropout, tmp_path):
    settings = tiny_settings(tmp_path / "kept", accumulate=2)
    rates = {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    settings = replace(settings, model=replace(settings.model, num_layers=2, **rates))
    again = replace(
        settings, output=str(tmp_path / "again"), training=replace(settings.training, recompute=True)
    )
    kept, recomputed = Run(train(settings)), Run(train(again))
    for kind in ("train", "valid"):
        assert [e["loss"] for e in events(kept.path, kind)] == [
            e["loss"] for e in events(recomputed.path, kind)
        ]
    for name in (MODEL, OPTIMIZER):
        expected, found = (read_tensors(run.marked("last") / name) for run in (kept, recomputed))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def kept_for_backward(model: nn.Module, tokens: torch.Tensor) -> int:
    """Bytes of the tensors that the forward pass keeps, without parameters; each storage counts once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = model(tokens)
    del result
    return sum(sizes.values())


def test_only_the_input_of_each_layer_is_kept():
    config = ModelConfig(
        kind="decoder_only", vocab_size=20, d_model=16, num_heads=2, d_ff=64, num_layers=4, dropout=0.0
    )
    model = build_model(config).train()
    tokens = torch.randint(4, 20, (2, 64))
    before = kept_for_backward(model, tokens)
    recompute_layers(model)
    hidden = tokens.numel() * 4 * config.d_model
    after = kept_for_backward(model, tokens)
    assert after < before / 4
    assert after <= (config.num_layers + 2) * hidden + 8 * 2 * tokens.numel()  # and tokens and positions


def test_no_16_bit_copies_of_the_weights_are_kept():
    """Autocast's own cache would keep those of all layers until the end of the forward pass."""
    seen = []

    def objective(model: nn.Module, batch: torch.Tensor) -> Loss:
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return Loss(model(batch).sum(), 1)

    in_precision(objective, torch.device("cpu"), "bfloat16")(nn.Linear(2, 2), torch.ones(1, 2))
    assert seen == [(True, False)]


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match=r"training\.recompute is for layers, but .* named `blocks`"):
        recompute_layers(nn.Linear(2, 2))


def test_without_gradients_a_layer_is_simply_called(monkeypatch):
    monkeypatch.setattr("transformer.training.layers.checkpoint", None)
    model = build_model(ModelConfig(vocab_size=20, d_model=16, num_heads=2, d_ff=32, num_layers=2)).eval()
    tokens = torch.ones(2, 3, dtype=torch.int64)
    with torch.no_grad():
        expected = model(tokens, tokens)
        recompute_layers(model)
        torch.testing.assert_close(model(tokens, tokens), expected, rtol=0, atol=0)
