"""A language model of 100,000 tokens: no tensor grows with the square of the length."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transformer.config import ModelConfig
from transformer.data.running_text import TextBatch
from transformer.decoding.processors import NoRepeat
from transformer.decoding.sampling import Sampler
from transformer.decoding.search import generate
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.model.build import build_model
from transformer.tasks.language_model import LanguageModelLoss
from transformer.training.layers import recompute_layers
from transformer.training.loop import accumulate_gradients

LENGTH = 100_000
CONFIG = ModelConfig(
    kind="decoder_only", vocab_size=50, d_model=16, num_heads=2, d_ff=32, num_layers=2, max_positions=LENGTH
)
PER_TOKEN = 64
"""Numbers that any tensor may hold for each token: more than the vocabulary, less than 100,000."""


class Watcher(TorchDispatchMode):
    """Knows the largest tensor that any operation inside the block has returned."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@contextmanager
def fake_tensors() -> Iterator[Watcher]:
    """Tensors without memory on the CPU, computed with its kernels, and a watcher of their sizes."""
    with Watcher() as watcher, FakeTensorMode():
        yield watcher


def test_the_watcher_sees_a_square():
    with fake_tensors() as watcher:
        row = torch.zeros(LENGTH)
        (row[:, None] == row).any()
    assert watcher.largest == LENGTH**2


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("recompute", [False, True])
def test_training_needs_memory_in_proportion_to_the_length(positions, recompute):
    objective = LanguageModelLoss(0.1, cross_entropy=overwriting_cross_entropy)
    with fake_tensors() as watcher:
        model = build_model(replace(CONFIG, positions=positions))
        if recompute:
            recompute_layers(model)
        tokens = torch.ones(1, LENGTH + 1, dtype=torch.int64)
        accumulate_gradients(objective, model.train(), [TextBatch(tokens, LENGTH)])
    assert LENGTH < watcher.largest <= PER_TOKEN * LENGTH


@torch.no_grad()
def test_cached_decoding_needs_memory_in_proportion_to_the_length():
    chunk = 32
    with fake_tensors() as watcher:
        model = build_model(CONFIG).eval()
        _, state = model.prefill(torch.ones(1, LENGTH - 100, dtype=torch.int64), max_length=100)
        for _ in range(2):
            model.step(torch.ones(1, dtype=torch.int64), state)
        model(torch.ones(1, chunk, dtype=torch.int64), state=state)  # with a mask of chunk x length
    assert LENGTH < watcher.largest <= PER_TOKEN * LENGTH


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 2])
def test_no_part_of_a_search_needs_more(rows):
    length = 2000
    model = build_model(replace(CONFIG, max_positions=length)).eval()
    prompts = torch.full((rows, length), 5)
    prompts[1:, length // 2 :] = model.pad_id
    with Watcher() as watcher:
        generate(model, prompts, choose=Sampler(top_p=0.9), max_length=20, processors=[NoRepeat(3)])
    assert length < watcher.largest <= PER_TOKEN * rows * length


def test_long_and_short_sequences_have_the_same_gradients():
    """Across the length from which on the fused call is used; the model is causal, so that a prefix
    of a sequence has the same logits as the sequence."""
    model = build_model(replace(CONFIG, num_layers=1, dropout=0.0)).train()
    tokens = torch.randint(4, 50, (1, 600))
    gradients = []
    for length in (500, 600):
        model(tokens[:, :length])[:, :500].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)
