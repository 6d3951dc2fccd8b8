"""§3 of the paper in NumPy and float64, written from the equations.

The code processes one sentence pair at a time, and the heads of a layer one after another.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


class NumpyTransformer:
    """The paper's model, with the weights of an `EncoderDecoder`.

    The `EncoderDecoder` must have the paper's architecture: post-norm, ReLU, sinusoidal positions, no bias in
    attention or output, and a single embedding matrix.
    """

    def __init__(self, model: nn.Module, num_heads: int, num_layers: int) -> None:
        self.weights = {name: tensor.cpu().double().numpy() for name, tensor in model.state_dict().items()}
        self.num_heads = num_heads
        self.num_layers = num_layers

    def __call__(self, source: list[int], target: list[int]) -> Array:
        """Compute logits of shape (target, vocabulary)."""
        memory = self.embed(source)
        for i in range(self.num_layers):
            at = f"encoder.blocks.{i}"
            memory = self.add_and_norm(at, "self_attention", memory, memory)
            memory = self.add_and_norm(at, "feed_forward", memory)
        y = self.embed(target)
        future = np.triu(np.ones((len(target), len(target)), dtype=bool), k=1)
        for i in range(self.num_layers):
            at = f"decoder.blocks.{i}"
            y = self.add_and_norm(at, "self_attention", y, y, future)
            y = self.add_and_norm(at, "cross_attention", y, memory)
            y = self.add_and_norm(at, "feed_forward", y)
        return y @ self.weights["output.weight"].T

    def embed(self, tokens: list[int]) -> Array:
        table = self.weights["encoder.embedding.embedding.weight"]
        d_model = table.shape[1]
        positions = np.zeros((len(tokens), d_model))
        for position in range(len(tokens)):
            for i in range(d_model // 2):
                angle = position / 10_000 ** (2 * i / d_model)
                positions[position, 2 * i] = math.sin(angle)
                positions[position, 2 * i + 1] = math.cos(angle)
        return table[tokens] * math.sqrt(d_model) + positions

    def add_and_norm(self, at: str, name: str, x: Array, *others: Any) -> Array:
        """Compute LayerNorm(x + Sublayer(x))."""
        sublayer: Any = self.feed_forward if name == "feed_forward" else self.attend
        x = x + sublayer(f"{at}.{name}", x, *others)
        norm = f"{at}.around_{name}.norm"
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * self.weights[f"{norm}.weight"] + self.weights[f"{norm}.bias"]

    def attend(self, at: str, x: Array, memory: Array, hidden: NDArray[np.bool_] | None = None) -> Array:
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

    def feed_forward(self, at: str, x: Array) -> Array:
        w_1, b_1 = self.weights[f"{at}.w_1.weight"], self.weights[f"{at}.w_1.bias"]
        w_2, b_2 = self.weights[f"{at}.w_2.weight"], self.weights[f"{at}.w_2.bias"]
        return np.maximum(0, x @ w_1.T + b_1) @ w_2.T + b_2
