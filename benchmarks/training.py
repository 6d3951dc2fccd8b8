"""Training speed of this project and of the alternatives, in one comparison on the same batches.

python benchmarks/training.py --size small
python benchmarks/training.py --device cuda --size base big

Compares ours, Marian of Hugging Face's `transformers` and `torch.nn.Transformer` (benchmarks/peers.py), each
in two settings. `stock` is a simple script: float32, and on a CPU glibc's default allocator. `tuned` is what
our training does: bfloat16 if the hardware has it, on a CPU an allocator that keeps freed pages
(transformer/kernels/allocator.py), and on a GPU, or with --compile, torch.compile. The variants run in turn
for a few updates, each in a separate process, and the median round is reported. The batches are those that we
make of Multi30k (--text), or sentences of 28 random tokens if that text is missing.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from measuring import machine, matrix_rate, synchronize, update_flops
from numpy.typing import NDArray
from torch import Tensor

import transformer
from transformer.data.batches import Batch, TokenBatches, tokenize_pairs
from transformer.data.corpus import load_parallel
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.hardware import choose_device, choose_precision
from transformer.kernels.allocator import keep_freed_memory
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.translation import TranslationLoss
from transformer.training.loop import accumulate_gradients, clip_gradients
from transformer.training.objectives import in_precision
from transformer.training.optimizer import make_optimizers
from transformer.training.update_rule import UpdateRule

SIZES = {
    "tiny": {"d_model": 32, "num_heads": 2, "d_ff": 64, "num_layers": 1},
    "small": {"d_model": 256, "num_heads": 4, "d_ff": 1024, "num_layers": 3},
    "base": {"d_model": 512, "num_heads": 8, "d_ff": 2048, "num_layers": 6},
    "big": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 6},
}
LENGTH = 28
"""Tokens of a random sentence: about the mean of WMT14."""


@dataclass(frozen=True)
class Variant:
    """A model and how it is trained."""

    model: str
    is_tuned: bool
    is_compiled: bool = False

    def __str__(self) -> str:
        return f"{self.model}, {'tuned' if self.is_tuned else 'stock'}"


class Round(NamedTuple):
    seconds: list[float]
    """Of each update."""
    peak_bytes: int


Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Source and target tokens of a batch, padded; the target starts with BOS."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["small"])
    parser.add_argument("--compile", action="store_true", help="compile the tuned variants, as on a GPU")
    parser.add_argument("--tokens", type=int, help="tokens per batch and side (4,096; GPU: 25,000)")
    parser.add_argument("--vocabulary", type=int, help="vocabulary size (10,000; GPU: 37,000)")
    parser.add_argument("--updates", type=int, default=4, help="measured updates per round")
    parser.add_argument("--warm-up", type=int, default=2, help="warm-up updates per round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each variant, in turn")
    data = os.environ.get("TRANSFORMER_DATA", "data")
    parser.add_argument("--text", default=f"{data}/multi30k/train", help="path without .en and .de")
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    is_gpu = device.type == "cuda"
    tokens = options.tokens or (25_000 if is_gpu else 4_096)
    vocabulary = options.vocabulary or (37_000 if is_gpu else 10_000)
    batches = make_batches(options.text, vocabulary, tokens, options.warm_up + options.updates)

    is_compiled = is_gpu or options.compile
    variants = [
        Variant(model, is_tuned, is_tuned and is_compiled)
        for model in ("ours", "Marian", "torch.nn.Transformer")
        for is_tuned in (True, False)
    ]
    precision = choose_precision("auto", device)
    rates = {name: matrix_rate(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    print(f"{machine(device)}; tuned: {precision}")
    print("one matrix product: " + ", ".join(f"{n} {r / 1e12:.3f} TFLOP/s" for n, r in rates.items()))
    for size in options.size:
        config = transformer.ModelConfig(vocab_size=vocabulary, **SIZES[size])
        rounds: dict[Variant, list[Round]] = {variant: [] for variant in variants}
        for _ in range(options.rounds):
            for variant in variants:
                rounds[variant].append(in_a_process(variant, config, batches, options.warm_up, device.type))
        report(size, config, batches[options.warm_up :], rounds, rates, precision)


def make_batches(text: str, vocab_size: int, tokens: int, count: int) -> list[Pair]:
    """Our batches of the text, or random ones with the same token budget if it is missing."""
    if not Path(f"{text}.en").exists():
        print(f"no text at {text}.en: random tokens")
        generator = np.random.default_rng(1)
        shapes = (tokens // LENGTH, LENGTH), (tokens // LENGTH, LENGTH + 1)
        return [tuple(generator.integers(4, vocab_size, shape) for shape in shapes) for _ in range(count)]  # type: ignore[misc]
    table = load_parallel(text, "en", "de")
    lines = [*table["source"], *table["target"]]
    entries = min(vocab_size, 10_000)  # as many as a small text fills
    tokenizer = train_tokenizer(lines, vocab_size=entries, normalization="identity")
    pairs, _ = tokenize_pairs(table, tokenizer, max_tokens=128)
    made = TokenBatches(pairs, tokens_per_batch=tokens, seed=1)
    fetched = [made.fetch(rows) for rows in made.take(count)]
    return [(batch.src_tokens.numpy(), batch.tgt_tokens.numpy()) for batch in fetched]


def in_a_process(
    variant: Variant, config: transformer.ModelConfig, batches: list[Pair], warm_up: int, device: str
) -> Round:
    """Run one round in a fresh process, with the default allocator settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    with (
        patch.dict(os.environ, environment, clear=True),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        return pool.submit(measure, variant, config, batches, warm_up, device).result()


def measure(
    variant: Variant, config: transformer.ModelConfig, batches: list[Pair], warm_up: int, device_name: str
) -> Round:
    """Train on all batches and time all but the first `warm_up`."""
    torch.manual_seed(0)
    device = torch.device(device_name)
    update = make_update(variant, config, device)
    seconds = []
    for pair in batches:
        src_tokens, tgt_tokens = (torch.from_numpy(side).to(device) for side in pair)
        synchronize(device)
        start = time.perf_counter()
        update(src_tokens, tgt_tokens)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    if device.type == "cuda":
        return Round(seconds[warm_up:], torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return Round(seconds[warm_up:], unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def make_update(
    variant: Variant, config: transformer.ModelConfig, device: torch.device
) -> Callable[[Tensor, Tensor], None]:
    import peers

    precision = choose_precision("auto", device) if variant.is_tuned else "float32"
    if variant.is_tuned:
        keep_freed_memory()
    if variant.model == "ours":
        return our_update(config, device, precision, is_compiled=variant.is_compiled)
    make = {"Marian": peers.marian, "torch.nn.Transformer": peers.TorchTransformer}[variant.model]
    model = make(config).to(device).train()
    return peers.plain_update(model, device, precision, is_compiled=variant.is_compiled, pad_id=config.pad_id)


def our_update(
    config: transformer.ModelConfig, device: torch.device, precision: str, *, is_compiled: bool
) -> Callable[[Tensor, Tensor], None]:
    """An update as in `transformer.training.loop.fit`, without logging."""
    model = transformer.build_model(config).to(device).train()
    rule = UpdateRule(model, make_optimizers(model, transformer.TrainingConfig()), schedule=lambda _: 0.0)
    rule.set_rate(1)
    objective = in_precision(TranslationLoss(0.1, cross_entropy=overwriting_cross_entropy), device, precision)  # type: ignore[arg-type]
    forward = torch.compile(model, dynamic=True) if is_compiled else model

    def update(src_tokens: Tensor, tgt_tokens: Tensor) -> None:
        target_tokens = int((tgt_tokens[:, 1:] != config.pad_id).sum())
        batch = Batch(src_tokens, tgt_tokens, np.arange(len(src_tokens)), target_tokens)
        loss = accumulate_gradients(objective, forward, [batch])
        norm = clip_gradients(model, None)
        rule.step((loss.total.isfinite() & norm.isfinite()).float())

    return update


def report(
    size: str,
    config: transformer.ModelConfig,
    batches: list[Pair],
    rounds: dict[Variant, list[Round]],
    rates: dict[str, float],
    precision: str,
) -> None:
    lengths = [
        tuple((side != config.pad_id).sum(axis=1) for side in (src, tgt[:, 1:])) for src, tgt in batches
    ]
    flops = sum(update_flops(config, src, tgt) for src, tgt in lengths)
    tokens = sum(int(tgt.sum()) for _, tgt in lengths)
    padded = sum(src.size + tgt[:, 1:].size for src, tgt in batches)
    padding = 1 - sum(int(src.sum() + tgt.sum()) for src, tgt in lengths) / padded
    shape = "d {d_model}, {num_heads} heads, d_ff {d_ff}, {num_layers} + {num_layers}".format(**SIZES[size])
    print(
        f"\n{size}: {shape}, V {config.vocab_size:,}; {tokens / len(batches):,.0f} target tokens and "
        f"{flops / len(batches) / 1e12:.3f} TFLOP an update, {padding:.1%} padding"
    )
    print(
        f"{'':<28}{'tokens/s':>10}{'(worst, best round)':>20}{'ms/update':>11}{'peak GB':>9}"
        f"{'of bf16 rate':>14}{'of own rate':>13}{'ours is':>9}"
    )
    seconds = {variant: [sum(part.seconds) for part in parts] for variant, parts in rounds.items()}
    ours = next(iter(seconds.values()))
    for variant, parts in rounds.items():
        spent = median(seconds[variant])
        own = rates[precision if variant.is_tuned else "float32"]
        spread = f"({tokens / max(seconds[variant]):,.0f}, {tokens / min(seconds[variant]):,.0f})"
        times = median(theirs / mine for theirs, mine in zip(seconds[variant], ours, strict=True))
        print(
            f"{variant!s:<28}{tokens / spent:>10,.0f}{spread:>20}{1000 * spent / len(batches):>11.0f}"
            f"{max(part.peak_bytes for part in parts) / 1e9:>9.2f}{flops / spent / rates['bfloat16']:>14.1%}"
            f"{flops / spent / own:>13.1%}{times:>8.2f}x"
        )


if __name__ == "__main__":
    main()
