"""The model against others': `torch.nn`'s layers, and the paper's equations in NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, random_rows, right_padded, tiny_model
from torch import nn

from transformer.model.attention import KeyValue, MultiHeadAttention
from transformer.model.blocks import DecoderBlock, TransformerBlock
from transformer.model.layers import FeedForward, PostNorm, PreNorm
from transformer.model.masks import padding_mask

D, H, D_FF = 8, 2, 12
TOKENS = torch.tensor([[5, 5, 5, 5, 5], [5, 5, 5, 0, 0]])
SOURCE = torch.tensor([[5, 5, 5, 0, 0, 0, 0], [5, 5, 5, 5, 5, 5, 5]])
POSITIONS = torch.arange(5)[None]
layers = pytest.mark.parametrize(
    ("wiring", "activation"),
    [(wiring, activation) for wiring in (PostNorm, PreNorm) for activation in (F.relu, F.gelu)],
    ids=["post relu", "post gelu", "pre relu", "pre gelu"],
)


def attention():
    return MultiHeadAttention(D, H, bias=True)


def randomised(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def copy_parameters(theirs, ours):
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)


def copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention):
    projections = (ours.w_q, ours.w_k, ours.w_v)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    copy_parameters(theirs.out_proj, ours.w_o)


def test_attention_equals_torch():
    ours = randomised(attention())
    theirs = nn.MultiheadAttention(D, H, batch_first=True).eval()
    copy_attention(theirs, ours)
    x, memory = torch.randn(2, 5, D), torch.randn(2, 7, D)
    kv, mask = ours.project_kv(memory), padding_mask(SOURCE, 0)
    output, weights = theirs(x, memory, memory, key_padding_mask=SOURCE == 0, average_attn_weights=False)
    assert_close(ours(x, kv, mask=mask), output)
    assert_close(ours.weights(x, kv, mask=mask), weights)


@layers
def test_an_encoder_layer_equals_torch(wiring, activation):
    ours = randomised(TransformerBlock(attention(), FeedForward(D, D_FF, activation), lambda: wiring(D)))
    theirs = nn.TransformerEncoderLayer(
        D,
        H,
        D_FF,
        activation=activation,
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=wiring is PreNorm,
    ).eval()
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_parameters(theirs.linear1, ours.feed_forward.w_1)
    copy_parameters(theirs.linear2, ours.feed_forward.w_2)
    copy_parameters(theirs.norm1, ours.around_self_attention.norm)
    copy_parameters(theirs.norm2, ours.around_feed_forward.norm)

    x, real = torch.randn(2, 5, D), TOKENS != 0
    output = ours(x, positions=POSITIONS, mask=padding_mask(TOKENS, 0))
    assert_close(output[real], theirs(x, src_key_padding_mask=~real)[real])


@layers
def test_a_decoder_layer_equals_torch(wiring, activation):
    feed_forward = FeedForward(D, D_FF, activation)
    ours = randomised(DecoderBlock(attention(), attention(), feed_forward, lambda: wiring(D)))
    theirs = nn.TransformerDecoderLayer(
        D,
        H,
        D_FF,
        activation=activation,
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=wiring is PreNorm,
    ).eval()
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_attention(theirs.multihead_attn, ours.cross_attention)
    copy_parameters(theirs.linear1, ours.feed_forward.w_1)
    copy_parameters(theirs.linear2, ours.feed_forward.w_2)
    copy_parameters(theirs.norm1, ours.around_self_attention.norm)
    copy_parameters(theirs.norm2, ours.around_cross_attention.norm)
    copy_parameters(theirs.norm3, ours.around_feed_forward.norm)

    x, memory = torch.randn(2, 5, D), torch.randn(2, 7, D)
    kv: KeyValue = ours.cross_attention.project_kv(memory)
    output = ours(x, kv, padding_mask(SOURCE, 0), positions=POSITIONS, is_causal=True)
    future = ~torch.ones(5, 5, dtype=torch.bool).tril()  # True = hidden, in torch.nn
    assert_close(output, theirs(x, memory, tgt_mask=future, memory_key_padding_mask=SOURCE == 0))


class NumpyTransformer:
    """§3 of the paper for one sentence pair, in float64, from its equations alone."""

    def __init__(self, model: nn.Module, num_heads: int, num_layers: int) -> None:
        self.weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
        self.num_heads = num_heads
        self.num_layers = num_layers

    def __call__(self, source: list[int], target: list[int]) -> np.ndarray:
        memory = self.embed(source)
        for i in range(self.num_layers):
            at = f"encoder.blocks.{i}"
            memory = self.add_and_norm(at, "self_attention", memory, memory)
            memory = self.add_and_norm(at, "feed_forward", memory)
        y = self.embed(target)
        future = np.triu(np.ones((len(target), len(target)), dtype=bool), k=1)
        for i in range(self.num_layers):
            y = self.add_and_norm(f"blocks.{i}", "self_attention", y, y, future)
            y = self.add_and_norm(f"blocks.{i}", "cross_attention", y, memory)
            y = self.add_and_norm(f"blocks.{i}", "feed_forward", y)
        return y @ self.weights["output.weight"].T

    def embed(self, tokens: list[int]) -> np.ndarray:
        table = self.weights["encoder.embedding.embedding.weight"]
        d_model = table.shape[1]
        positions = np.zeros((len(tokens), d_model))
        for position in range(len(tokens)):
            for i in range(d_model // 2):
                angle = position / 10_000 ** (2 * i / d_model)
                positions[position, 2 * i] = math.sin(angle)
                positions[position, 2 * i + 1] = math.cos(angle)
        return table[tokens] * math.sqrt(d_model) + positions

    def add_and_norm(self, at: str, name: str, x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """LayerNorm(x + Sublayer(x))."""
        sublayer = self.feed_forward if name == "feed_forward" else self.attend
        x = x + sublayer(f"{at}.{name}", x, *others)
        norm = f"{at}.around_{name}.norm"
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * self.weights[f"{norm}.weight"] + self.weights[f"{norm}.bias"]

    def attend(self, at: str, x: np.ndarray, memory: np.ndarray, hidden: np.ndarray | None = None):
        heads = []
        w_q, w_k, w_v = (np.split(self.weights[f"{at}.w_{name}.weight"], self.num_heads) for name in "qkv")
        for head in range(self.num_heads):
            q, k, v = x @ w_q[head].T, memory @ w_k[head].T, memory @ w_v[head].T
            scores = q @ k.T / math.sqrt(q.shape[-1])
            if hidden is not None:
                scores[hidden] = -math.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v)
        return np.concatenate(heads, axis=-1) @ self.weights[f"{at}.w_o.weight"].T

    def feed_forward(self, at: str, x: np.ndarray) -> np.ndarray:
        w_1, b_1 = self.weights[f"{at}.w_1.weight"], self.weights[f"{at}.w_1.bias"]
        w_2, b_2 = self.weights[f"{at}.w_2.weight"], self.weights[f"{at}.w_2.bias"]
        return np.maximum(0, x @ w_1.T + b_1) @ w_2.T + b_2


@pytest.mark.parametrize("widths", [{}, {"d_k": 5, "d_v": 3}], ids=["equal widths", "free widths"])
def test_the_model_equals_the_papers_equations(widths):
    model = tiny_model(**widths)
    by_hand = NumpyTransformer(model, num_heads=2, num_layers=2)
    sources, targets = random_rows(7, 4, 1), random_rows(5, 6, 1)
    with torch.no_grad():
        logits = model(right_padded(sources), right_padded(targets)).double().numpy()
    for source, target, ours in zip(sources, targets, logits, strict=True):
        np.testing.assert_allclose(ours[: len(target)], by_hand(source, target), rtol=1e-5, atol=1e-5)
