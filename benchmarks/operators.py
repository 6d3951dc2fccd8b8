"""A profile of torch's operators in a training update, or in a translation, on a CPU.

python benchmarks/operators.py update --size small
python benchmarks/operators.py translation --size small --batch 1 --beam 4

The update is the same as in `benchmarks/training.py`, with the same batches. The translation has random
weights, random sources and 15 output tokens; the time of the encoder is divided by 15, too. Prints the share
of each operator in the total time of the operators, by torch.profiler, without the other operators that it
calls. Python's own time is not included, and profiling slows down each call.
"""

import argparse
import os
from collections.abc import Callable

import torch
from decoding_systems import FORCED, VOCABULARY
from measuring import machine
from torch.profiler import ProfilerActivity, profile
from training import SIZES, make_batches, our_update

import transformer
from transformer.decoding.inference import freeze, without_gradients
from transformer.decoding.processors import MinLength
from transformer.hardware import choose_precision
from transformer.kernels.allocator import keep_freed_memory

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("update", "translation"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--times", type=int, default=3, help="updates or translations, after two for warm-up")
    parser.add_argument("--operators", type=int, default=15, help="number of operators to print")
    data = os.environ.get("TRANSFORMER_DATA", "data")
    parser.add_argument("--text", default=f"{data}/multi30k/train", help="training text, without .en and .de")
    parser.add_argument("--batch", type=int, default=1, help="sentences of a translation")
    parser.add_argument("--beam", type=int, default=4, help="beam size of a translation")
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    config = transformer.ModelConfig(vocab_size=VOCABULARY, **SIZES[options.size])
    is_update = options.what == "update"
    run = update(config, options) if is_update else translation(config, options)
    steps, unit = (options.times, "an update") if is_update else (options.times * FORCED, "a token")

    print(machine(CPU))
    report(profiled(run, options.times), options.operators, steps, unit)


def update(config: transformer.ModelConfig, options: argparse.Namespace) -> Callable[[], object]:
    """A function that does one more update at each call."""
    batches = iter(make_batches(options.text, VOCABULARY, 4_096, 2 + options.times))
    apply = our_update(config, CPU, choose_precision("auto", CPU))
    return lambda: apply(*(torch.from_numpy(side) for side in next(batches)))


def translation(config: transformer.ModelConfig, options: argparse.Namespace) -> Callable[[], object]:
    """A function that computes the same translation at each call."""
    model = transformer.build_model(config).eval()
    freeze(model)
    sources = torch.randint(4, VOCABULARY, (options.batch, FORCED))
    processors = [MinLength(FORCED, config.eos_id)]

    def translate() -> None:
        with without_gradients(model):
            transformer.beam_search(
                model,  # type: ignore[arg-type]
                sources,
                beam_size=options.beam,
                alpha=0.6,
                max_length=FORCED,
                processors=processors,
            )

    return translate


def profiled(run: Callable[[], object], times: int) -> dict[str, tuple[float, int]]:
    """Microseconds and calls of each operator over `times` runs, after two warm-up runs."""
    for _ in range(2):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(times):
            run()
    return {each.key: (each.self_cpu_time_total, each.count) for each in found.key_averages()}


def report(times: dict[str, tuple[float, int]], most: int, steps: int, unit: str) -> None:
    total = sum(spent for spent, _ in times.values())
    print(f"{total / steps / 1000:.2f} ms of operators {unit}")
    print(f"{'operator':<52}{'share':>8}{f'calls {unit}':>18}")
    ordered = sorted(times.items(), key=lambda item: -item[1][0])
    for name, (spent, calls) in ordered[:most]:
        print(f"{name:<52}{spent / total:>8.1%}{calls / steps:>18.1f}")
    rest = sum(spent for _, (spent, _) in ordered[most:])
    print(f"{f'{max(0, len(ordered) - most)} others':<52}{rest / total:>8.1%}")


if __name__ == "__main__":
    main()
