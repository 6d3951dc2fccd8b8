"""Training speed of our decoder-only model, compared with a plain GPT loop, on one batch of random tokens.

    python benchmarks/language_model.py [--sizes characters words] [--threads 1]

The plain loop is what people write by hand for GPT-2: one linear layer for queries, keys and values,
`scaled_dot_product_attention`, torch's cross-entropy, fused AdamW, and autocast for bfloat16. It has no guard
against non-finite gradients and measures no norm; ours does both, as `transformer.train` does. Both models
have pre-norm blocks, GELU, learned positions, biases, tied embeddings, no dropout, and the same number of
parameters; both run with our allocator's settings. They take turns; prints the medians and the median of the
ratios.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import torch
import torch.nn.functional as F
from measuring import machine
from torch import Tensor, nn

import transformer
from transformer.config import Precision
from transformer.data.running_text import TextBatch
from transformer.kernels.allocator import keep_freed_memory
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.language_model import LanguageModelLoss
from transformer.training.loop import accumulate_gradients, clip_gradients
from transformer.training.objectives import in_precision
from transformer.training.optimizer import make_optimizers
from transformer.training.update_rule import UpdateRule

CPU = torch.device("cpu")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Size:
    d_model: int
    num_heads: int
    num_layers: int
    vocab_size: int
    rows: int
    length: int


SIZES = {
    "characters": Size(d_model=128, num_heads=4, num_layers=4, vocab_size=65, rows=12, length=64),
    "words": Size(d_model=256, num_heads=4, num_layers=4, vocab_size=4000, rows=16, length=128),
}
"""`characters` is the size of configs/shakespeare_char.yaml."""


class PlainBlock(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        d, self.num_heads = size.d_model, size.num_heads
        self.norm_1, self.qkv, self.output = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.norm_2, self.w_1, self.w_2 = nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.norm_1(x)).unflatten(2, (3, self.num_heads, -1))  # (B, T, 3, H, d_k)
        q, k, v = heads.transpose(1, 3).unbind(2)  # 3 x (B, H, T, d_k)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(y.transpose(1, 2).flatten(2))
        return x + self.w_2(F.gelu(self.w_1(self.norm_2(x))))


class PlainGPT(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocab_size, size.d_model)
        self.positions = nn.Embedding(size.length, size.d_model)
        self.blocks = nn.ModuleList(PlainBlock(size) for _ in range(size.num_layers))
        self.norm = nn.LayerNorm(size.d_model)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def plain_update(size: Size, tokens: Tensor, precision: Precision) -> Callable[[], object]:
    model = PlainGPT(size)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def update() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def our_update(size: Size, tokens: Tensor, precision: Precision) -> Callable[[], object]:
    sizes = {name: value for name, value in asdict(size).items() if name not in ("rows", "length")}
    config = transformer.ModelConfig(
        kind="decoder_only",
        d_ff=4 * size.d_model,
        dropout=0.0,
        norm="pre",
        activation="gelu",
        positions="learned",
        attention_bias=True,
        max_positions=size.length,
        **sizes,
    )
    model = transformer.build_model(config).train()
    parameters = [sum(p.numel() for p in each.parameters()) for each in (model, PlainGPT(size))]
    assert parameters[0] == parameters[1], parameters
    rule = UpdateRule(model, make_optimizers(model, transformer.TrainingConfig()), schedule=lambda _: 1e-3)
    rule.set_rate(1)
    objective = in_precision(LanguageModelLoss(0.0, cross_entropy=overwriting_cross_entropy), CPU, precision)
    batch = TextBatch(tokens, tokens[:, 1:].numel())

    def update() -> None:
        loss = accumulate_gradients(objective, model, [batch])
        norm = clip_gradients(model, None)
        rule.step((loss.total.isfinite() & norm.isfinite()).float())

    return update


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1, help="threads of both")
    parser.add_argument("--seconds", type=float, default=10, help="time for each row of the table")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(machine(CPU))
    print(f"{'size':<12}{'precision':<10}{'ours, ms':>10}{'plain, ms':>11}{'ours is faster':>16}")
    for name in options.sizes:
        size = SIZES[name]
        tokens = torch.randint(4, size.vocab_size, (size.rows, size.length + 1))
        for precision in options.precisions:
            updates = [make(size, tokens, precision) for make in (our_update, plain_update)]
            seconds: list[list[float]] = [[], []]
            for update in updates:  # warm-up
                update()
            while sum(map(sum, seconds)) < options.seconds:
                for update, taken in zip(updates, seconds, strict=True):
                    start = time.perf_counter()
                    update()
                    taken.append(time.perf_counter() - start)
            ours, plain = (1000 * median(taken) for taken in seconds)
            ratio = median(theirs / mine for mine, theirs in zip(*seconds, strict=True))
            print(f"{name:<12}{precision:<10}{ours:>10.1f}{plain:>11.1f}{ratio:>15.2f}x", flush=True)


if __name__ == "__main__":
    main()
