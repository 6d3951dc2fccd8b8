"""The other libraries in benchmarks/training.py: each has our model's size, is causal, and learns."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer import ModelConfig, build_model

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ModelConfig(vocab_size=50, d_model=32, num_heads=2, d_ff=64, num_layers=2)
SOURCE = torch.tensor([[5, 6, 7, 8, 9, 2], [10, 11, 12, 2, 0, 0]])
TARGET = torch.tensor([[1, 20, 21, 22, 23, 2], [1, 24, 25, 2, 0, 0]])
ATTENTION_BIASES = 3 * 2 * 4 * TINY.d_model  # three attentions in each of two layers, four projections each
FINAL_NORMS = 2 * 2 * TINY.d_model
EXTRA_PARAMETERS = {
    "Marian": ATTENTION_BIASES,
    "torch.nn.Transformer": ATTENTION_BIASES + FINAL_NORMS,
    "eole": FINAL_NORMS,
    "torchlingo": ATTENTION_BIASES + FINAL_NORMS + TINY.vocab_size,
    "x-transformers": 2 - 2 * 5 * TINY.d_model,  # two scales of positions; LayerNorms without biases
}

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the other libraries


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("peers")


@pytest.fixture(params=EXTRA_PARAMETERS)
def name(request, peers) -> str:
    if missing := peers.missing_modules(request.param):
        pytest.skip(f"{request.param} needs {', '.join(missing)}")
    return request.param


@pytest.fixture
def model(name, peers) -> nn.Module:
    torch.manual_seed(1)
    return peers.build(name, TINY).eval()


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def loss(model: nn.Module) -> Tensor:
    logits = model(SOURCE, TARGET[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), TARGET[:, 1:].flatten(), ignore_index=TINY.pad_id)


def test_every_alternative_is_tested(peers):
    assert EXTRA_PARAMETERS.keys() == peers.NEEDS.keys()


def test_the_parameters_are_ours_but_for_those_named_here(name, model):
    assert size(model) - size(build_model(TINY)) == EXTRA_PARAMETERS[name]


@torch.no_grad()
def test_the_future_cannot_change_the_past_and_the_present_can(model):
    changed = TARGET.clone()
    changed[:, 3] = 30
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert ((after[:, 3] - before[:, 3]).abs() > 1e-3).any(dim=-1).all()


@torch.no_grad()
def test_padding_of_the_source_changes_nothing(model):
    torch.testing.assert_close(
        model(F.pad(SOURCE, (0, 3)), TARGET[:1].expand(2, -1)),
        model(SOURCE, TARGET[:1].expand(2, -1)),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ten_updates_lower_the_loss(name, model, peers, precision):
    before = loss(model)
    update = peers.make_update(name, model.train(), TINY, precision)
    for _ in range(10):
        update(SOURCE, TARGET)
    assert loss(model.eval()) < before


def test_the_dropout_is_that_of_the_paper(model, monkeypatch):
    """On the embeddings of both stacks and on each sub-layer's output, five in two layers each."""
    shares: list[float] = []
    dropout, fused = F.dropout, F.scaled_dot_product_attention

    def counted(tokens: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        shares.append(p if training else 0)
        return dropout(tokens, p, training, inplace)

    def fused_counted(*args: Tensor, **options: Any) -> Tensor:
        shares.append(options.get("dropout_p") or (args[4:] or [0])[0])
        return fused(*args, **options)

    monkeypatch.setattr(F, "dropout", counted)
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused_counted)
    model.train()
    model(SOURCE, TARGET)
    assert [share for share in shares if share] == [TINY.dropout] * (2 + 2 * 5)


@pytest.mark.parametrize("beam", [1, 4])
def test_outputs_of_eole_have_the_length_asked_for(peers, beam):
    if missing := peers.missing_modules("eole"):
        pytest.skip(f"eole needs {', '.join(missing)}")
    peer_eole = import_module("peer_eole")
    translator = peer_eole.make_translator(TINY, beam=beam, length=7)
    with torch.inference_mode():
        assert peer_eole.translate(translator, SOURCE) == 2 * 7


def test_a_missing_alternative_is_named_and_the_others_stay(peers, monkeypatch, capsys):
    training = import_module("training")
    monkeypatch.setitem(peers.NEEDS, "eole", ["torch", "no_such_module"])
    assert training.installed(["eole", "torch.nn.Transformer"]) == ["torch.nn.Transformer"]
    assert capsys.readouterr().out.startswith("without eole: not installed: no_such_module (")


@pytest.mark.slow
def test_the_program_measures_each_alternative_in_two_variants():
    sizes = "--size tiny --tokens 100 --vocabulary 50 --text none"
    fast = "--rounds 1 --updates 1 --warm-up 0 --threads 1 --peers torch.nn.Transformer"
    done = subprocess.run(
        [sys.executable, "benchmarks/training.py", *sizes.split(), *fast.split()],
        cwd=BENCHMARKS.parent,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
    )
    rows = [
        line.split("  ")[0] for line in done.stdout.splitlines() if ", tuned  " in line or ", stock  " in line
    ]
    models = ("ours", "torch.nn.Transformer")
    assert rows == [f"{model}, {setting}" for model in models for setting in ("tuned", "stock")], done.stderr
