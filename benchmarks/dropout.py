"""The time of dropout on this machine's CPU: torch's dropout, and ours with 16 random bits per element.

python benchmarks/dropout.py [--seconds 3]

Prints microseconds for a forward and backward pass over a batch of 4,096 tokens of width 128, 256 and 512.
"""

import argparse
import platform
import time

import torch
from torch import nn

from transformer.kernels.dropout import Dropout

MODULES = {"torch": nn.Dropout(0.1), "16 bits": Dropout(0.1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each width")
    seconds = parser.parse_args().seconds
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for width in (128, 256, 512):
        x = torch.randn(4096, width, requires_grad=True)
        spent = dict.fromkeys(MODULES, 0.0)
        rounds = 0
        while sum(spent.values()) < seconds:
            rounds += 1
            for name, module in MODULES.items():
                start = time.perf_counter()
                module(x).sum().backward()
                spent[name] += time.perf_counter() - start
        figures = ", ".join(f"{name} {1e6 * total / rounds:,.0f} µs" for name, total in spent.items())
        print(f"4,096 x {width}: {figures}")


if __name__ == "__main__":
    main()
