"""Time of a linear layer on this machine's CPU: `nn.Linear`, and packed in float32 and in bfloat16.

python benchmarks/linear.py

Prints microseconds per call, without gradients, for few rows at a time, as in decoding.
"""

import platform
import time

import torch
from torch import Tensor, nn

from transformer.kernels import linear as packed
from transformer.kernels.linear import pack

SHAPES = [(256, 256), (256, 1024), (256, 10_000), (512, 2048), (512, 10_000)]
ROWS = (1, 4, 32, 128)


def microseconds(layer: nn.Module, x: Tensor) -> float:
    for _ in range(3):
        layer(x)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.1:
        layer(x)
        count += 1
    return 1e6 * (time.perf_counter() - start) / count


def main() -> None:
    packed.FEW_ROWS = 1
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'shape':>14}  rows   plain  packed  bfloat16")
    with torch.no_grad():
        for inputs, outputs in SHAPES:
            layers = tuple(nn.Linear(inputs, outputs) for _ in range(3))
            pack(layers[1])
            pack(layers[2], torch.bfloat16)
            for rows in ROWS:
                x = torch.randn(rows, inputs)
                plain, float32, bfloat16 = (microseconds(each, x) for each in layers)
                print(
                    f"{inputs:>5} x {outputs:>6}  {rows:>4}  {plain:>6.0f}  {float32:>6.0f}  {bfloat16:>8.0f}"
                )


if __name__ == "__main__":
    main()
