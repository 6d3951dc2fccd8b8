"""How time and memory of an update grow with each size, and self-attention compared with recurrence.

python benchmarks/scaling.py --plot docs/scaling.svg

First, one size at a time is varied; the middle is d 128, 2 + 2 layers, V 4,000 and 32 sentences of 32 tokens.
Each point is measured in a separate process, and its memory is the peak of this process. `FLOP model` is the
time predicted from the FLOPs of benchmarks/measuring.py, at the FLOP/s that the middle size reaches. If the
measured time is greater, something other than matrix products grows.

Second, Table 1 of the paper: a self-attention layer, n²·d, compared with a recurrent layer (`nn.LSTM`), n·d²,
forward and backward in float32 over 2,048 tokens in sentences of length n.
"""

import argparse
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import machine, seconds_per_call, update_flops
from torch import nn
from training import Variant, make_update

import transformer
from transformer.kernels.allocator import keep_freed_memory

CPU = torch.device("cpu")
MIDDLE = {"length": 32, "width": 128, "layers": 2, "vocabulary": 4_000, "sentences": 32}
STEPS = {
    "length": (8, 32, 128, 256),
    "width": (32, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "vocabulary": (1_000, 4_000, 16_000, 32_000),
    "sentences": (8, 32, 64, 128),
}
TOKENS = 2_048
LENGTHS = (16, 32, 64, 128, 256, 512, 1_024, 2_048)
WIDTHS = (64, 128, 256)


class Point(NamedTuple):
    seconds: float
    peak_bytes: int
    flops: float


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each point")
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw both into (needs the extra plots)")
    options = parser.parse_args()
    print(machine(CPU))
    updates = measure_updates(options.seconds)
    layers = measure_layers(options.seconds / 2)
    if options.plot:
        plot(options.plot, updates, layers)


def measure_updates(seconds: float) -> dict[str, list[Point]]:
    print(f"{'':<12}{'':>8}{'ms/update':>12}{'FLOP model':>12}{'peak MB':>9}")
    middle = in_a_process(MIDDLE, seconds)
    points = {}
    for name, steps in STEPS.items():
        points[name] = [
            middle if step == MIDDLE[name] else in_a_process(MIDDLE | {name: step}, seconds) for step in steps
        ]
        for step, point in zip(steps, points[name], strict=True):
            model = 1000 * point.flops * middle.seconds / middle.flops
            print(
                f"{name:<12}{step:>8,}{1000 * point.seconds:>12.1f}{model:>12.1f}"
                f"{point.peak_bytes / 1e6:>9,.0f}"
            )
    return points


def in_a_process(sizes: dict[str, int], seconds: float) -> Point:
    """Measure a point in a separate process, because peak memory is only known per process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_update, sizes, seconds).result()


def measure_update(sizes: dict[str, int], seconds: float) -> Point:
    torch.manual_seed(0)
    width, rows, length = sizes["width"], sizes["sentences"], sizes["length"]
    config = transformer.ModelConfig(
        vocab_size=sizes["vocabulary"],
        d_model=width,
        num_heads=4,
        d_ff=4 * width,
        num_layers=sizes["layers"],
    )
    update = make_update(Variant("ours", is_tuned=True), config)
    src_tokens = torch.randint(4, config.vocab_size, (rows, length))
    tgt_tokens = torch.randint(4, config.vocab_size, (rows, length + 1))
    spent = seconds_per_call(lambda: update(src_tokens, tgt_tokens), CPU, seconds=seconds)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lengths = np.full(rows, length)
    return Point(spent, peak, update_flops(config, lengths, lengths))


class SelfAttention(nn.Module):
    """Multi-head attention of a sentence to itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = transformer.MultiHeadAttention(width, num_heads=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, self.attention.project_kv(x))


class Recurrence(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


def measure_layers(seconds: float) -> dict[int, list[tuple[float, float]]]:
    """Seconds of self-attention and of recurrence for each width and length."""
    print(f"\n{'d':>5}{'n':>7}{'self-attention ms':>19}{'LSTM ms':>9}{'n²d / nd²':>11}{'measured':>10}")
    found: dict[int, list[tuple[float, float]]] = {}
    for width in WIDTHS:
        layers: tuple[nn.Module, nn.Module] = SelfAttention(width), Recurrence(width)
        found[width] = []
        for length in LENGTHS:
            x = torch.randn(TOKENS // length, length, width, requires_grad=True)

            def step(layer: nn.Module, x: torch.Tensor = x) -> None:
                layer(x).sum().backward()

            attention, recurrence = (
                seconds_per_call(lambda layer=layer: step(layer), CPU, seconds=seconds)  # type: ignore[misc]
                for layer in layers
            )
            found[width].append((attention, recurrence))
            print(
                f"{width:>5}{length:>7,}{1000 * attention:>19.2f}{1000 * recurrence:>9.2f}"
                f"{length / width:>11.2f}{attention / recurrence:>10.2f}"
            )
    return found


def plot(path: Path, updates: dict[str, list[Point]], layers: dict[int, list[tuple[float, float]]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 7), layout="constrained")
    for axis, (name, points) in zip(axes.flat, updates.items(), strict=False):
        middle = points[STEPS[name].index(MIDDLE[name])]
        axis.loglog(STEPS[name], [1000 * point.seconds for point in points], "o-", label="measured")
        model = [1000 * point.flops * middle.seconds / middle.flops for point in points]
        axis.loglog(STEPS[name], model, "--", label="FLOP model")
        axis.set(xlabel=name, ylabel="ms an update")
        axis.set_xticks(STEPS[name], labels=[f"{step:,}" for step in STEPS[name]])
        axis.xaxis.minorticks_off()
        axis.legend()
    axis: Any = axes.flat[-1]
    for width, pairs in layers.items():
        (line,) = axis.loglog(LENGTHS, [1000 * pair[0] for pair in pairs], label=f"self-attention, d {width}")
        recurrence = [1000 * pair[1] for pair in pairs]
        axis.loglog(LENGTHS, recurrence, "--", color=line.get_color(), label=f"LSTM, d {width}")
    axis.set(xlabel=f"n, {TOKENS:,} tokens in all", ylabel="ms a layer")
    axis.set_ylim(top=2_000)  # room for the legend
    axis.legend(fontsize="x-small", ncols=2, loc="upper left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
