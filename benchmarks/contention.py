"""Training speed on a quiet and on a busy machine, for several ways in which OpenMP's threads can wait.

    python benchmarks/contention.py [--load quiet busy] [--seconds 2] [--rounds 9] [--variants NAME=VALUE ...]

Trains models of toyland's size (d 128, 3 + 3 layers, 1,500 tokens per update, the precision that `auto`
picks), each in its own process. The variants take turns: OpenMP's defaults, the settings of our commands
(`transformer/kernels/openmp.py`), other settings, and a single thread. On a `busy` machine, another such
training with OpenMP's defaults and one endless loop per core are running. Prints target tokens per second for
each variant: the median, the worst and the best round, and the median of the ratios to the first and to the
last variant within each round.

If others use the machine (Linux, as root): `chrt -r 1` in front of the command keeps it quiet for a short
time; `echo -20 > /proc/self/autogroup` in a new session (`setsid`) leaves little CPU time to the others.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

CONFIG: dict[str, Any] = {"d_model": 128, "num_heads": 4, "d_ff": 512, "num_layers": 3, "vocab_size": 1200}
TOKENS = 1500
LOOP = "while True: pass"
ENDLESS = 10**9
BASES = ("OpenMP's defaults", "one thread")


def serve() -> None:
    """For each number of seconds read from standard input, train and print target tokens per second."""
    import torch
    from training import make_batches, our_update

    from transformer import ModelConfig
    from transformer.hardware import choose_precision
    from transformer.kernels.allocator import keep_freed_memory

    keep_freed_memory()
    config, cpu = ModelConfig(**CONFIG), torch.device("cpu")
    update = our_update(config, cpu, choose_precision("auto", cpu))
    [(source, target)] = make_batches("", config.vocab_size, TOKENS, 1)
    pair = torch.from_numpy(source), torch.from_numpy(target)
    for line in sys.stdin:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < float(line):
            update(*pair)
            count += 1
        print(count * target[:, 1:].size / (time.perf_counter() - start), flush=True)


class Trainer:
    """A process that trains on request, with only these settings of OpenMP."""

    def __init__(self, settings: dict[str, str]) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=kept | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, seconds: float) -> None:
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)

    def rate(self, seconds: float) -> float:
        """Target tokens per second."""
        assert self.process.stdout is not None
        self.begin(seconds)
        while (line := self.process.stdout.readline()).startswith("no text"):  # printed by make_batches
            pass
        return float(line)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def load(name: str) -> Iterator[None]:
    """Inside the block, the machine is `quiet`, or `busy` with a training and one endless loop per core."""
    loops: list[subprocess.Popen[bytes]] = []
    trainer = None
    if name == "busy":
        loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(os.cpu_count() or 1)]
        trainer = Trainer({})
        trainer.rate(1)  # returns when it has begun to train
        trainer.begin(ENDLESS)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        if trainer is not None:
            trainer.end()


def variants(others: list[str]) -> dict[str, dict[str, str]]:
    from transformer.kernels.openmp import WAITING

    named = {BASES[0]: {}, "the command's": WAITING}
    for other in others:
        named[other] = dict(part.split("=", 1) for part in other.split(","))
    return {**named, BASES[1]: {"OMP_NUM_THREADS": "1"}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--load", nargs="+", choices=("quiet", "busy"), default=["quiet", "busy"])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each variant, in turn")
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME=VALUE,...", default=["OMP_WAIT_POLICY=passive"]
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    import torch
    from measuring import machine

    print(machine(torch.device("cpu")))
    trainers = {name: Trainer(settings) for name, settings in variants(options.variants).items()}
    try:
        for trainer in trainers.values():
            trainer.rate(1)  # warm-up
        for name in options.load:
            with load(name):
                rounds = [
                    {variant: trainer.rate(options.seconds) for variant, trainer in trainers.items()}
                    for _ in range(options.rounds)
                ]
            report(name, rounds)
    finally:
        for trainer in trainers.values():
            trainer.end()


def report(name: str, rounds: list[dict[str, float]]) -> None:
    header = f"{name}, target tokens/s"
    print(f"\n{header:<34}{'median':>8}{'worst':>8}{'best':>8}{'of default':>12}{'of one':>8}")
    for variant in rounds[0]:
        found = [rates[variant] for rates in rounds]
        of_default, of_one = (median(rates[variant] / rates[base] for rates in rounds) for base in BASES)
        print(
            f"{variant:<34}{median(found):>8,.0f}{min(found):>8,.0f}{max(found):>8,.0f}"
            f"{of_default:>12.2f}{of_one:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
