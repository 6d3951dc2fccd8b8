"""Additive attention (Bahdanau et al., 2015): v · tanh(q + k) in place of q · k / √d_k.

python examples/additive_attention.py [UPDATES]

§3.2.1 explains why the paper uses dot products: both kinds of attention are similar in theoretical
complexity, but one matrix multiplication computes all dot products, while additive attention computes a
vector of d_k numbers for each query-key pair.
"""

import math
from typing import Any

import torch
from demonstration import SENTENCES, demonstrate
from torch import Tensor, nn

import transformer
from transformer import KeyValue


class AdditiveAttention(transformer.MultiHeadAttention):
    def __init__(self, d_model: int, num_heads: int, **options: Any) -> None:
        super().__init__(d_model, num_heads, **options)
        self.v = nn.Parameter(torch.randn(num_heads, self.d_k) / math.sqrt(self.d_k))

    def weights(
        self,
        x: Tensor,
        kv: KeyValue,
        *,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        q = self.project_q(x, positions)
        sums = torch.tanh(q[:, :, :, None] + kv.keys[:, :, None])  # (B, H, T, S, d_k)
        scores = torch.einsum("bhtsd,hd->bhts", sums, self.v)
        if is_causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        return scores.softmax(dim=-1)

    def forward(self, x: Tensor, kv: KeyValue, **options: Any) -> Tensor:
        weights = nn.functional.dropout(self.weights(x, kv, **options), self.attention_dropout, self.training)
        return self.w_o(self.merge_heads(weights @ kv.values))


class AdditiveBuilder(transformer.ModelBuilder):
    def attention(self) -> transformer.MultiHeadAttention:
        return super().attention(AdditiveAttention)


def build(config: transformer.ModelConfig) -> nn.Module:
    return AdditiveBuilder(config).build()


def main() -> None:
    translator = demonstrate(build)
    [source], [[translation]] = (
        translator.encode(SENTENCES[:1], 1),
        translator.translate_n_best(SENTENCES[:1], n_best=1),
    )
    bos, pieces = translator.config.bos_id, translator.tokenizer
    target = [bos, *translation.tokens]
    with transformer.record_attention(translator.model) as recorded, torch.no_grad():
        translator.model(torch.tensor([source]), torch.tensor([target]))
    weights = recorded["decoder.blocks.1.cross_attention"][0].mean(dim=0)  # (T, S)
    print("\neach output piece and the source piece it attends to most; last layer, mean over heads")
    for piece, row in zip(translation.tokens, weights, strict=False):
        place = int(row.argmax())
        written, seen = pieces.decode([[piece], [source[place]]])
        print(f"{written:14} {seen or 'the end':14} {float(row[place]):.2f}")


if __name__ == "__main__":
    main()
