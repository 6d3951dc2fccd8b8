"""Grouped-query attention (Ainslie et al., 2023): several query heads share one head of keys and values.

python examples/grouped_query.py [UPDATES]

The fewer key-value heads there are, the smaller the key-value cache is. A single key-value head gives
multi-query attention (Shazeer, 2019); as many key-value heads as query heads give the paper's multi-head
attention.
"""

from functools import partial
from typing import Any

import torch
from demonstration import demonstrate
from torch import Tensor, nn

import transformer
from transformer import KeyValue


class GroupedQueryAttention(transformer.MultiHeadAttention):
    def __init__(self, d_model: int, num_heads: int, *, num_kv_heads: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, **options)
        if num_heads % num_kv_heads:
            raise ValueError(f"num_heads {num_heads} is not a multiple of num_kv_heads {num_kv_heads}")
        self.num_kv_heads = num_kv_heads
        bias = self.w_q.bias is not None
        self.w_k = nn.Linear(d_model, num_kv_heads * self.d_k, bias=bias)
        self.w_v = nn.Linear(d_model, num_kv_heads * self.d_v, bias=bias)

    def project_kv(self, x: Tensor, positions: Tensor | None = None) -> KeyValue:  # noqa: ARG002
        """Compute keys and values of shape (B, num_kv_heads, S, width), the shape that the cache stores."""
        parts = (w(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(1, 2) for w in (self.w_k, self.w_v))
        return KeyValue(*parts)

    def for_every_query(self, kv: KeyValue) -> KeyValue:
        """Repeat each key-value head for its query heads: (B, num_kv_heads, S, width) -> (B, H, S, width)."""
        group = self.num_heads // self.num_kv_heads
        return KeyValue(*(part.repeat_interleave(group, dim=1) for part in kv))

    def forward(self, x: Tensor, kv: KeyValue, **options: Any) -> Tensor:
        return super().forward(x, self.for_every_query(kv), **options)

    def weights(self, x: Tensor, kv: KeyValue, **options: Any) -> Tensor:
        return super().weights(x, self.for_every_query(kv), **options)


class GroupedQueryBuilder(transformer.ModelBuilder):
    def __init__(self, config: transformer.ModelConfig, num_kv_heads: int) -> None:
        super().__init__(config)
        self.num_kv_heads = num_kv_heads

    def attention(self) -> transformer.MultiHeadAttention:
        return super().attention(partial(GroupedQueryAttention, num_kv_heads=self.num_kv_heads))


def build(config: transformer.ModelConfig, num_kv_heads: int = 1) -> nn.Module:
    return GroupedQueryBuilder(config, num_kv_heads).build()


def cache_bytes(model: nn.Module, source_length: int, max_length: int) -> int:
    """Count the bytes that the keys and values of one source and its translation take during decoding."""
    source = torch.full((1, source_length), 5)
    with torch.no_grad():
        _, state = model.prefill(source, max_length=max_length)
    kept = [*state.memory, *(KeyValue(cache.keys, cache.values) for cache in state.caches)]
    return sum(part.numel() * part.element_size() for kv in kept for part in kv)


def main() -> None:
    config = demonstrate(build).config
    print("\nsize of all keys and values for a sentence of 30 tokens and a translation of 30")
    for num_kv_heads in (4, 2, 1):
        model = build(config, num_kv_heads)
        print(f"{num_kv_heads} of {config.num_heads} heads: {cache_bytes(model, 30, 30):>9,} bytes")


if __name__ == "__main__":
    main()
