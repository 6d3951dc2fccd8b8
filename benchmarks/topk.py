"""The most probable tokens in a step of a beam search on a CPU: found block by block, and with torch's topk.

python benchmarks/topk.py [--rows 1 4 32 128] [--vocabularies 1000 4000 10000 37000] [--count 8]

Prints the microseconds of both for random log-probabilities with one thread. The two alternate, and the
fastest of `--rounds` rounds counts. A row is a hypothesis. A beam search of size W takes the 2 W most likely
tokens of each.
"""

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch
from measuring import machine

from transformer.decoding import search
from transformer.kernels.topk import BLOCK, best_first_by_blocks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 32, 128])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[1000, 4000, 10000, 37000])
    parser.add_argument("--count", type=int, default=8, help="tokens of each row")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    search.is_faster_by_blocks = lambda *_: False  # so that `best_first` is the plain version
    print(machine(torch.device("cpu")))
    print(f"{'rows':>6}{'vocabulary':>12}{'topk, µs':>12}{'blocks, µs':>12}{'ratio':>8}")
    for vocabulary, rows in product(options.vocabularies, options.rows):
        if options.count > vocabulary // BLOCK:
            continue
        log_probs = torch.randn(rows, vocabulary).log_softmax(dim=1)
        plain, blocks = fastest(log_probs, options.count, options.rounds)
        print(f"{rows:>6}{vocabulary:>12}{plain:>12.0f}{blocks:>12.0f}{plain / blocks:>8.2f}")


def fastest(log_probs: torch.Tensor, count: int, rounds: int) -> list[float]:
    found: dict[Callable[..., object], list[float]] = {search.best_first: [], best_first_by_blocks: []}
    for _ in range(rounds):
        for function, spent in found.items():
            started = time.perf_counter()
            for _ in range(5):
                function(log_probs, count)
            spent.append((time.perf_counter() - started) / 5)
    return [min(spent) * 1e6 for spent in found.values()]


if __name__ == "__main__":
    main()
