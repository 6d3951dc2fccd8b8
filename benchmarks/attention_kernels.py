"""The time of a training update with each attention kernel on this machine's CPU.

python benchmarks/attention_kernels.py [--seconds 5] [--precision float32]

Compares three kernels: torch's flash kernel, torch's plain matrix products, and our `fused_attention`, which
training uses. The sizes are those of configs/toyland.yaml and configs/multi30k_en_de.yaml, and longer
sentences. The default precision is the one that `auto` picks. The kernels take turns. Prints the median
milliseconds per update, and target tokens per second. Then prints the time of a float32 softmax with its
gradient, over rows and over columns.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import transformer
from transformer.config import Precision
from transformer.data.batches import Batch
from transformer.hardware import choose_precision
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.translation import TranslationLoss
from transformer.training.loop import accumulate_gradients
from transformer.training.objectives import in_precision
from transformer.training.optimizer import make_optimizers
from transformer.training.update_rule import UpdateRule

SIZES = {
    "toyland, 110 x 13": (
        transformer.ModelConfig(
            vocab_size=1200, d_model=128, num_heads=4, d_ff=512, num_layers=3, dropout=0.0
        ),
        110,
        13,
    ),
    "multi30k, 200 x 20": (
        transformer.ModelConfig(
            vocab_size=8000, d_model=128, num_heads=4, d_ff=256, num_layers=4, dropout=0.3
        ),
        200,
        20,
    ),
    "long, 16 x 256": (
        transformer.ModelConfig(
            vocab_size=8000, d_model=128, num_heads=4, d_ff=256, num_layers=4, dropout=0.3
        ),
        16,
        256,
    ),
}
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "plain": SDPBackend.MATH, "ours": None}


@contextmanager
def using(kernel: SDPBackend | None) -> Iterator[None]:
    """Inside the block, attention uses torch's `kernel`, or ours if it is `None`."""

    def torchs(
        q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, bias: None, dropout: float, **rest: Any
    ) -> Tensor:
        assert bias is None  # these models have none
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, **rest)

    if kernel is None:
        yield
        return
    with sdpa_kernel(kernel), patch("transformer.model.attention.fused_attention", torchs):
        yield


def make_update(
    config: transformer.ModelConfig, rows: int, length: int, precision: Precision
) -> Callable[[SDPBackend | None], None]:
    torch.manual_seed(0)
    model = transformer.build_model(config).train()
    rule = UpdateRule(model, make_optimizers(model, transformer.TrainingConfig()), schedule=lambda _: 0.0)
    rule.set_rate(1)
    src_tokens = torch.randint(4, config.vocab_size, (rows, length))
    tgt_tokens = torch.randint(4, config.vocab_size, (rows, length + 1))
    batch = Batch(src_tokens, tgt_tokens, np.arange(rows), rows * length)
    device = torch.device("cpu")
    objective = in_precision(
        TranslationLoss(0.1, cross_entropy=overwriting_cross_entropy),
        device,
        precision,
    )

    def update(kernel: SDPBackend | None) -> None:
        with using(kernel):
            accumulate_gradients(objective, model, [batch])
        rule.step(torch.ones(()))

    return update


def softmax_milliseconds(length: int, dim: int) -> float:
    """Median of 20 forward and backward passes over about 250,000 scores, in `length` x `length` squares."""
    scores = torch.randn(250_000 // length**2, length, length, requires_grad=True)
    gradient = torch.randn_like(scores)
    times = []
    for _ in range(21):
        start = time.perf_counter()
        scores.softmax(dim).backward(gradient)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each size and kernel")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    options = parser.parse_args()
    seconds = options.seconds
    precision = choose_precision(options.precision, torch.device("cpu"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {precision}")
    print(f"{'size':<22}{'kernel':<8}{'ms/update':>14}{'tokens/s':>12}")
    for name, (config, rows, length) in SIZES.items():
        update = make_update(config, rows, length, precision)
        times: dict[str, list[float]] = {label: [] for label in KERNELS}
        for kernel in KERNELS.values():
            update(kernel)
        while min(map(sum, times.values())) < seconds:
            for label, kernel in KERNELS.items():
                start = time.perf_counter()
                update(kernel)
                times[label].append(time.perf_counter() - start)
        for label in KERNELS:
            median = statistics.median(times[label])
            print(f"{name:<22}{label:<8}{1000 * median:>14.1f}{rows * length / median:>12,.0f}")
    print(f"\n{'softmax, keys':<22}{'rows ms':>10}{'columns ms':>12}")
    for length in (8, 15, 16, 24, 32, 64):
        print(
            f"{length:<22}{softmax_milliseconds(length, -1):>10.2f}{softmax_milliseconds(length, -2):>12.2f}"
        )


if __name__ == "__main__":
    main()
