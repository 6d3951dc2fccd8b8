"""`transformer selftest`: this package compared with implementations that share no code with it."""

import pytest
import torch

from transformer.cli import main
from transformer.model.layers import FeedForward, PostNorm
from transformer.testing.parity import items
from transformer.testing.parity.items import HUGGING_FACE, OWN, measure, measure_contract

CPU = torch.device("cpu")
ALL = OWN | HUGGING_FACE


@pytest.mark.parametrize("name", ALL)
def test_every_item_is_within_its_tolerance(name):
    if name in HUGGING_FACE:
        pytest.importorskip("transformers")
    item = measure(name, ALL[name], CPU, seed=3)
    assert item.error <= 2e-5, item


@pytest.mark.parametrize("name", [*list(OWN)[2:5], *HUGGING_FACE])
def test_every_item_sees_an_error_in_ours(name, monkeypatch):
    if name in HUGGING_FACE:
        pytest.importorskip("transformers")
    right = FeedForward.forward
    monkeypatch.setattr(FeedForward, "forward", lambda self, x: 1.01 * right(self, x))
    assert not measure(name, ALL[name], CPU, seed=3).is_ok


def test_the_contract_is_an_item():
    assert measure_contract("encoder_decoder", CPU, seed=3).error <= 2e-5


@pytest.fixture
def only_own_layers(monkeypatch):
    monkeypatch.setattr(items, "find_spec", lambda _: None)
    for name in list(OWN)[2:]:
        if not name.startswith("encoder layer"):
            monkeypatch.delitem(OWN, name)
    monkeypatch.setattr(items, "KINDS", ())


@pytest.mark.usefixtures("only_own_layers")
def test_the_command_prints_each_item_and_what_it_skips(capsys):
    assert main(["selftest", "--seed", "2", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "on cpu with torch " in out
    for name in OWN:
        assert any(line.startswith(name) and line.endswith("1e-04  ok") for line in out.splitlines())
    assert "all 3 items agree" in out
    assert "skipped: encoder-decoder vs Marian" in out
    assert "transformers is not installed: pip install transformers" in out


@pytest.mark.usefixtures("only_own_layers")
def test_a_planted_error_is_found(monkeypatch, capsys):
    right = PostNorm.forward
    monkeypatch.setattr(PostNorm, "forward", lambda self, x, sublayer: right(self, 1.01 * x, sublayer))
    assert main(["selftest", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if "FAILED  " in line]
    assert line.startswith("encoder layer")
    assert "PostNorm ReLU, at [" in line or "PostNorm GELU, at [" in line
    assert "1 of 3 items FAILED" in out


def test_a_contract_that_fails_has_no_error_that_passes(monkeypatch):
    monkeypatch.setattr(PostNorm, "forward", lambda _, x, sublayer: x + sublayer(x).detach())
    item = measure_contract("decoder_only", CPU, seed=0)
    assert item.error == torch.inf
    assert item.detail == "finite gradients for every parameter"


def test_a_seed_that_is_none_is_refused(capsys):
    assert main(["selftest", "--seed", "-1"]) == 2
    assert "--seed is -1; it must be at least 0 and less than 2**63" in capsys.readouterr().err
