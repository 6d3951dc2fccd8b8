"""The time of a linear layer on this machine's CPU: `nn.Linear`, packed layers and 8-bit integers.

    python benchmarks/linear.py [--cold]

Prints microseconds per call, without gradients, for few rows at a time, as in decoding. By default, all calls
read the same weights. With `--cold`, each call reads other weights (64 MB in all), as a model's step does.
`dynamic` is `torch.ops.quantized.linear_dynamic`, which scales activations per tensor and uses tensor types
that torch will remove. `onednn` is our int8 layer if it used `onednn::qlinear_pointwise` for all matrices and
numbers of rows.
"""

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from transformer.kernels import int8
from transformer.kernels import linear as packed
from transformer.kernels.linear import pack

SHAPES = [(256, 256), (256, 768), (256, 1024), (1024, 256), (256, 10_000), (512, 2048), (512, 10_000)]
ROWS = (1, 4, 32, 128)
COLD_BYTES = 64_000_000
Product = Callable[[Tensor], Tensor]


def packed_layer(linear: nn.Linear, dtype: torch.dtype) -> Product:
    pack(linear, dtype)
    return linear


def dynamic(linear: nn.Linear) -> Product:
    scales = (linear.weight.abs().amax(dim=1) / 127).double()
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    weight = torch.quantize_per_channel(linear.weight, scales, zeros, 0, torch.qint8)
    prepacked = torch.ops.quantized.linear_prepack(weight, linear.bias)
    return lambda x: torch.ops.quantized.linear_dynamic(x, prepacked, True)


def onednn(linear: nn.Linear) -> Product:
    """Our product with the operator that our layer uses only for a few rows and large matrices."""
    bias = linear.bias
    before, int8.LARGE = int8.LARGE, 1
    weight = int8.quantized_weight(linear.weight)
    int8.LARGE = before

    def product(x: Tensor) -> Tensor:
        int8.LEAST_ROWS, int8.FEW_ROWS = 1, 10**9
        y = int8.int8_linear(x, weight, bias)
        int8.LEAST_ROWS, int8.FEW_ROWS = LIMITS
        return y

    return product


LIMITS = int8.LEAST_ROWS, int8.FEW_ROWS
KINDS: dict[str, Callable[[nn.Linear], Product]] = {
    "plain": lambda linear: linear,
    "packed": partial(packed_layer, dtype=torch.float32),
    "bfloat16": partial(packed_layer, dtype=torch.bfloat16),
    "int8": partial(packed_layer, dtype=torch.int8),
    "dynamic": dynamic,
    "onednn": onednn,
}


def microseconds(products: list[Product], x: Tensor) -> float:
    """The fastest of several passes over the products, per call: other programs only make it slower."""
    best = float("inf")
    for _ in range(max(5, 60 // len(products))):
        start = time.perf_counter()
        for product in products:
            product(x)
        best = min(best, (time.perf_counter() - start) / len(products))
    return 1e6 * best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cold", action="store_true", help="read other weights in each call")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # torch warns about operators that it will remove
    packed.is_faster_packed = lambda *_: True
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'shape':>14}  rows" + "".join(f"{name:>14}" for name in KINDS))
    for inputs, outputs in SHAPES:
        count = max(1, COLD_BYTES // (4 * inputs * outputs)) if options.cold else 1
        with torch.no_grad():
            products = {
                name: [make(nn.Linear(inputs, outputs)) for _ in range(count)] for name, make in KINDS.items()
            }
        for rows in ROWS:
            x = torch.randn(rows, inputs)
            with torch.inference_mode():  # as in a search
                cells = "".join(f"{microseconds(each, x):>14.0f}" for each in products.values())
            print(f"{inputs:>5} x {outputs:>6}  {rows:>4}{cells}", flush=True)


if __name__ == "__main__":
    main()
