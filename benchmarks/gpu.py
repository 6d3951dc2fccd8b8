"""Measures this project on a GPU within a given time; the most valuable measurements come first.

PYTHONPATH=. python benchmarks/gpu.py --minutes 8
PYTHONPATH=. python benchmarks/gpu.py --minutes 12 --train 3 --recipe configs/multi30k_en_de.yaml

All parts run in one process. Each figure is printed as soon as it is known. If a part fails, or takes more
than its share of the time, the other parts still run. Training is measured on random batches with the lengths
of WMT, without waiting for the GPU between updates, as in `transformer.training.rehearsal`. MFU is the FLOP/s
of the model's matrix products, counted without padding (benchmarks/measuring.py), relative to --peak. cuDNN's
attention is off, as in our commands, except where it is measured.

Needs torch. The comparison of decoding also needs `transformers`, the reader `datasets`, and --train all
packages of the project and the recipe's corpus. `--device cpu --sizes tiny` is for a quick try.
"""

import argparse
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from gpu_parts import (
    SIZES,
    Bench,
    agreement,
    cudnn_attention,
    decoding,
    kernels,
    loss_alone,
    reader,
    recipe,
    saving,
    training,
)
from measuring import machine

from transformer.hardware import choose_device, without_cudnn_attention

Part = Callable[[Bench], Iterator[str]]
"""Yields each line as soon as it is known."""


class OutOfTimeError(Exception):
    """A part has used its share of the time."""


def main() -> None:
    options = parsed()
    try:
        device = choose_device(options.device)
    except ValueError as error:
        sys.exit(f"gpu.py: error: {error}")
    bench = Bench(device, options.vocabulary, options.tokens, options.peak * 1e12)
    print(
        f"{machine(device)}, {bench.precision}, {options.tokens:,} tokens a side, V {options.vocabulary:,}",
        flush=True,
    )
    failed = run(parts(options), bench, 60 * options.minutes)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all parts, apart from --train")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["base", "big"])
    parser.add_argument("--tokens", type=int, default=25_000, help="tokens per batch and side")
    parser.add_argument("--vocabulary", type=int, default=37_000)
    parser.add_argument(
        "--peak", type=float, default=989.0, help="TFLOP/s of MFU; H100, H200 in bfloat16: 989"
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="only parts with such a word in their names"
    )
    parser.add_argument("--train", type=float, metavar="MINUTES", help="train --recipe for so long")
    parser.add_argument("--recipe", default="configs/multi30k_en_de.yaml")
    return parser.parse_args()


def parts(options: argparse.Namespace) -> dict[str, tuple[float, Part]]:
    """The parts by name, the most valuable first, each with its share of the time."""
    first = options.sizes[0]
    chosen: dict[str, tuple[float, Part]] = {"self-test": (1, agreement)}
    for size in options.sizes:
        chosen[f"training {size}, eager"] = (1, partial(training, size=size, is_compiled=False))
        chosen[f"training {size}, compiled"] = (4, partial(training, size=size, is_compiled=True))
    chosen |= {
        "cuDNN attention": (2, partial(cudnn_attention, size=first)),
        "kernels": (1, partial(kernels, size=first)),
        "loss": (1, partial(loss_alone, size=first)),
        "reader": (0.5, reader),
        "saving": (0.5, partial(saving, size=first)),
    }
    for beam in (1, 4):
        for precision in ("float32", "bfloat16"):
            part = partial(decoding, size=first, precision=precision, beam=beam)  # type: ignore[arg-type]
            chosen[f"decoding {first}, beam {beam}, {precision}"] = (1, part)
    if options.train:
        chosen[f"training {options.recipe}"] = (
            0,
            partial(recipe, path=options.recipe, minutes=options.train),
        )
    return {name: part for name, part in chosen.items() if any(word in name for word in options.only)}


def run(parts: dict[str, tuple[float, Part]], bench: Bench, seconds: float) -> list[str]:
    """Run the parts, each for its share of the remaining time; returns the names of the failed parts."""
    began = time.monotonic()
    failed = []
    left = sum(share for share, _ in parts.values())
    for name, (share, part) in parts.items():
        rest = seconds - (time.monotonic() - began)
        print(f"\n{name}, after {time.monotonic() - began:.0f} s", flush=True)
        try:
            limit = max(1.0, rest * share / left) if share else None
            with at_most(limit), without_cudnn_attention():
                for line in part(bench):
                    print(f"  {line}", flush=True)
        except Exception as error:  # any error, so that the other parts still run
            failed.append(name)
            print(f"  FAILED: {type(error).__name__}: {' '.join(str(error).split())[:500]}", flush=True)
        left -= share
        clean_up()
    return failed


@contextmanager
def at_most(seconds: float | None) -> Iterator[None]:
    """Raise `OutOfTimeError` if the block takes longer, as soon as Python code runs again."""

    def interrupt(*_: object) -> None:
        raise OutOfTimeError(f"more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def clean_up() -> None:
    """Free the memory of a part, so that it does not count as memory of the next part."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
