"""Training speed on a CPU: this project and its alternatives, on the same batches.

python benchmarks/training.py --size small --threads 1 2

Compares our model with Marian of Hugging Face's `transformers`, `torch.nn.Transformer`, eole, torchlingo and
x-transformers where they are installed (benchmarks/peers.py), each in two variants. `stock` is like a simple
script: float32 and glibc's default allocator. `tuned` is like our training: bfloat16 if the hardware has it,
and an allocator that keeps freed pages (transformer/kernels/allocator.py). The variants take turns for a few
updates, each in a separate process, and the median round is reported. The batches are made by our own code
from Multi30k (--text). If that text is missing, they have sentences of 28 random tokens.

"Start" is the CPU time until the model is ready; in every variant it includes importing torch and this
program. The last column compares the CPU time of the updates, which does not include waiting for a core. If
other programs are running, it says more than the clock, but only with one thread, because threads that wait
for each other use CPU time. On a GPU: benchmarks/gpu.py.
"""

import argparse
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import peers
import torch
from measuring import machine, matrix_rate, update_flops
from numpy.typing import NDArray
from torch import Tensor

import transformer
from transformer.config import Precision
from transformer.data.batches import Batch, TokenBatches
from transformer.data.corpus import load_parallel
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.data.tokenizing import tokenize_pairs
from transformer.hardware import choose_precision
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
CPU = torch.device("cpu")
LENGTH = 28
"""Tokens of a random sentence: about the mean of WMT14."""


@dataclass(frozen=True)
class Variant:
    """A model, and whether its training is `tuned`."""

    model: str
    is_tuned: bool

    def __str__(self) -> str:
        return f"{self.model}, {'tuned' if self.is_tuned else 'stock'}"


class Round(NamedTuple):
    seconds: list[float]
    """The seconds of each update."""
    cpu_seconds: float
    """The CPU time of all updates."""
    start: float
    """CPU seconds of the process until the model is ready."""
    peak_bytes: int


OURS = Variant("ours", is_tuned=True)
Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Source and target tokens of a batch, padded; the target starts with BOS."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["small"])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--peers", nargs="*", choices=peers.NEEDS, default=list(peers.NEEDS))
    parser.add_argument("--tokens", type=int, default=4_096, help="tokens per batch and side")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="vocabulary size")
    parser.add_argument("--updates", type=int, default=4, help="measured updates per round")
    parser.add_argument("--warm-up", type=int, default=2, help="warm-up updates per round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each variant, in turn")
    data = os.environ.get("TRANSFORMER_DATA", "data")
    parser.add_argument("--text", default=f"{data}/multi30k/train", help="path without .en and .de")
    options = parser.parse_args()
    vocabulary = options.vocabulary
    batches = make_batches(options.text, vocabulary, options.tokens, options.warm_up + options.updates)

    variants = [
        Variant(name, tuned) for name in ["ours", *installed(options.peers)] for tuned in (True, False)
    ]
    precision = choose_precision("auto", CPU)
    for threads in options.threads:
        torch.set_num_threads(threads)
        rates = {name: matrix_rate(getattr(torch, name), CPU) for name in ("float32", "bfloat16")}
        print(f"\n{machine(CPU)}; tuned: {precision}; load {os.getloadavg()[0]:.1f}")
        products = ", ".join(f"{name} {rate / 1e12:.3f} TFLOP/s" for name, rate in rates.items())
        print(f"one matrix product: {products}")
        for size in options.size:
            config = transformer.ModelConfig(vocab_size=vocabulary, **SIZES[size])
            rounds: dict[Variant, list[Round]] = {variant: [] for variant in variants}
            for _ in range(options.rounds):
                for variant in variants:
                    found = in_a_process(variant, config, batches, options.warm_up, threads)
                    spent = f"{sum(found.seconds):.1f} s, {found.cpu_seconds:.1f} s of CPU"
                    print(f"{size}, {variant}: {spent}", file=sys.stderr, flush=True)
                    rounds[variant].append(found)
            report(size, config, batches[options.warm_up :], rounds, rates, precision)


def installed(names: list[str]) -> list[str]:
    """The alternatives that can be imported; prints a line for each of the others."""
    missing = {name: peers.missing_modules(name) for name in names}
    for name, modules in missing.items():
        if modules:
            print(f"without {name}: not installed: {', '.join(modules)} (benchmarks/peers.py says how)")
    return [name for name, modules in missing.items() if not modules]


def make_batches(text: str, vocab_size: int, tokens: int, count: int) -> list[Pair]:
    """Our batches of the text, or random ones with the same token budget if it is missing."""
    if not Path(f"{text}.en").exists():
        print(f"no text at {text}.en: random tokens")
        generator = np.random.default_rng(1)
        shapes = (tokens // LENGTH, LENGTH), (tokens // LENGTH, LENGTH + 1)
        return [tuple(generator.integers(4, vocab_size, shape) for shape in shapes) for _ in range(count)]  # type: ignore[misc]
    table = load_parallel(text, "en", "de")
    lines = [*table["source"], *table["target"]]
    entries = min(vocab_size, 10_000)  # the number that a small text fills
    tokenizer = train_tokenizer(lines, vocab_size=entries, normalization="identity")
    pairs, _ = tokenize_pairs(table, tokenizer, max_tokens=128)
    made = TokenBatches(pairs, tokens_per_batch=tokens, seed=1)
    fetched = [made.fetch(rows) for rows in made.take(count)]
    return [(batch.src_tokens.numpy(), batch.tgt_tokens.numpy()) for batch in fetched]


def in_a_process(
    variant: Variant, config: transformer.ModelConfig, batches: list[Pair], warm_up: int, threads: int
) -> Round:
    """Run one round in a fresh process, with the default allocator settings."""
    of_malloc = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(of_malloc)}
    environment["OMP_NUM_THREADS"] = str(threads)
    with (
        patch.dict(os.environ, environment, clear=True),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        return pool.submit(measure, variant, config, batches, warm_up).result()


def measure(variant: Variant, config: transformer.ModelConfig, batches: list[Pair], warm_up: int) -> Round:
    """Train on all batches and time all but the first `warm_up`."""
    torch.manual_seed(0)
    update = make_update(variant, config)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start_up = usage.ru_utime + usage.ru_stime
    seconds, cpu_seconds = [], []
    for pair in batches:
        src_tokens, tgt_tokens = map(torch.from_numpy, pair)
        start, cpu_start = time.perf_counter(), time.process_time()
        update(src_tokens, tgt_tokens)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Round(seconds[warm_up:], sum(cpu_seconds[warm_up:]), start_up, peak)


def make_update(variant: Variant, config: transformer.ModelConfig) -> peers.Update:
    precision = choose_precision("auto", CPU) if variant.is_tuned else "float32"
    if variant.is_tuned:
        keep_freed_memory()
    if variant.model == "ours":
        return our_update(config, CPU, precision)
    model = peers.build(variant.model, config).train()
    return peers.make_update(variant.model, model, config, precision)


def our_update(config: transformer.ModelConfig, device: torch.device, precision: Precision) -> peers.Update:
    """An update as in `transformer.training.loop.fit`, without logging."""
    model = transformer.build_model(config).to(device).train()
    rule = UpdateRule(model, make_optimizers(model, transformer.TrainingConfig()), schedule=lambda _: 0.0)
    rule.set_rate(1)
    objective = in_precision(TranslationLoss(0.1, cross_entropy=overwriting_cross_entropy), device, precision)

    def update(src_tokens: Tensor, tgt_tokens: Tensor) -> None:
        target_tokens = int((tgt_tokens[:, 1:] != config.pad_id).sum())
        batch = Batch(src_tokens, tgt_tokens, np.arange(len(src_tokens)), target_tokens)
        loss = accumulate_gradients(objective, model, [batch])
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
        f"{'':<28}{'tokens/s':>10}{'(worst, best round)':>20}{'ms/update':>11}{'start s':>9}{'peak GB':>9}"
        f"{'of bf16 rate':>14}{'of own rate':>13}{'ours is':>9}{'by CPU':>9}"
    )
    seconds = {variant: [sum(part.seconds) for part in parts] for variant, parts in rounds.items()}
    cpu = {variant: [part.cpu_seconds for part in parts] for variant, parts in rounds.items()}
    for variant, parts in rounds.items():
        typical = median(seconds[variant])
        own = rates[precision if variant.is_tuned else "float32"]
        spread = f"({tokens / max(seconds[variant]):,.0f}, {tokens / min(seconds[variant]):,.0f})"
        times, cpu_times = (
            median(theirs / mine for theirs, mine in zip(spent[variant], spent[OURS], strict=True))
            for spent in (seconds, cpu)
        )
        peak = max(part.peak_bytes for part in parts) / 1e9
        print(
            f"{variant!s:<28}{tokens / typical:>10,.0f}{spread:>20}{1000 * typical / len(batches):>11.0f}"
            f"{median(part.start for part in parts):>9.1f}{peak:>9.2f}"
            f"{flops / typical / rates['bfloat16']:>14.1%}{flops / typical / own:>13.1%}"
            f"{times:>8.2f}x{cpu_times:>8.2f}x"
        )


if __name__ == "__main__":
    main()
