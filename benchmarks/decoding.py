"""Decoding speed on a CPU: this project, Hugging Face and CTranslate2 with the same weights, and eole.

    TRANSFORMER_DATA=FOLDER python benchmarks/decoding.py [--sizes small base] [--run RUN] [--beams 1 4]

Without `--run`, translates Multi30k's test_2016_flickr with random weights, and every output has exactly 15
tokens. With `--run`, translates the run's test text with the run's model, and outputs end at EOS. Prints
output tokens per second, including EOS, peak memory, and the CPU time from the start of the process until the
model is ready. Each number is the median of `--rounds` measurements. Each measurement has its own process,
and the systems take turns. A batch size is a number of sentences or, with a `t`, of source tokens including
padding and beam. Sources are sorted by length.

eole's decoder cannot use our weights. Its search is therefore measured only without `--run`, with other
random weights for the same sizes, and only where eole is installed (benchmarks/peers.py says how).

On a GPU: benchmarks/gpu.py.
`--start RUN` prints how long `transformer translate` takes for one line, including start-up, compared with
`import torch`; `--curve` prints the time per token for outputs of 15, 60, 240 and 960 tokens.
Needs the extra `convert`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from decoding_systems import FORCED, SIZES, SYSTEMS, VOCABULARY, prepare

from transformer.kernels.allocator import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--run", help="a trained run's folder; outputs end at EOS")
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--batches", nargs="+", default=["1", "32", "2048t", "8192t"])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=4.0, help="time limit of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each system, in turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each system")
    parser.add_argument("--start", metavar="RUN", help="measure only start-up of `transformer translate`")
    parser.add_argument("--curve", action="store_true", help="measure only time per token by length")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(**json.loads(options.row))))
        return
    if options.start:
        print_start(options.start)
        return
    if options.curve:
        print_curve(options.sizes, options.beams, options.threads)
        return
    options.systems = available(options.systems, is_forced=not options.run)
    with tempfile.TemporaryDirectory() as folder:
        for size in ["run"] if options.run else options.sizes:
            models = Path(folder) / size
            sources = prepare(options.run, size, models)
            (models / "sources.json").write_text(json.dumps(sources))
            where = versions(options.threads)
            print(f"\n{size}, lengths {'natural' if options.run else FORCED}: {where}")
            for beam in options.beams:
                for batch in options.batches:
                    print_row(options, models, beam, batch)


def available(systems: list[str], *, is_forced: bool) -> list[str]:
    """Return the systems that can be measured. If eole cannot be, print the reason."""
    from peers import missing_modules

    if "eole" in systems and not is_forced:
        print("without eole: it cannot use the weights of a run")
    elif "eole" in systems and (missing := missing_modules("eole")):
        print(f"without eole: not installed: {', '.join(missing)} (benchmarks/peers.py says how)")
    else:
        return systems
    return [system for system in systems if system != "eole"]


def print_start(run: str) -> None:
    """Print the medians of seven starts each; the two programs take turns."""
    translate = [sys.executable, "-m", "transformer", "translate", "--run", run]
    commands = {"import torch": [sys.executable, "-c", "import torch"], "translate": translate}
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(8):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, input=b"A man sleeps .\n", stdout=subprocess.DEVNULL, check=True)
            spent[name].append(time.perf_counter() - start)
    medians = {name: sorted(times[1:])[3] for name, times in spent.items()}
    ratio = medians["translate"] / medians["import torch"]
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items()), f"({ratio:.2f} ×)")


def print_curve(sizes: list[str], beams: list[int], threads: int) -> None:
    import torch

    from transformer.config import ModelConfig
    from transformer.decoding.beam import beam_search
    from transformer.decoding.processors import MinLength
    from transformer.kernels.linear import pack_linear_layers
    from transformer.model.build import build_model

    keep_freed_memory()
    torch.set_num_threads(threads)
    for size in sizes:
        model = build_model(ModelConfig(**SIZES[size], vocab_size=VOCABULARY)).eval()
        pack_linear_layers(model)
        sources = torch.randint(4, VOCABULARY, (8, 20))
        for beam in beams:
            for length in (15, 60, 240, 960):
                options = {"beam_size": beam, "alpha": 0.6, "processors": [MinLength(length, 2)]}
                beam_search(model, sources, max_length=5, **options)
                start = time.perf_counter()
                beam_search(model, sources, max_length=length, **options)
                step = 1000 * (time.perf_counter() - start) / length
                print(f"{size}, 8 sentences, beam {beam}, {length} tokens: {step:.2f} ms a step", flush=True)


def print_row(options: argparse.Namespace, models: Path, beam: int, batch: str) -> None:
    """Print the medians over the rounds, and our speed-up: the median of the rounds' ratios."""
    rounds = [
        {system: measure_in_a_process(options, models, beam, batch, system) for system in options.systems}
        for _ in range(options.rounds)
    ]
    cells = []
    for system in options.systems:
        rate = median(found[system]["rate"] for found in rounds)
        memory = max(found[system]["memory"] for found in rounds)
        start = median(found[system]["start"] for found in rounds)
        times = [found["ours"]["rate"] / found[system]["rate"] for found in rounds if "ours" in found]
        ratio = f"; ours {median(times):.2f} ×" if times and system != "ours" else ""
        cells.append(f"{system} {rate:,.0f} ({memory:,.0f} MB, start {start:.1f} s{ratio})")
    print(f"beam {beam}, batch {batch}: {', '.join(cells)}", flush=True)


def measure_in_a_process(
    options: argparse.Namespace, models: Path, beam: int, batch: str, system: str
) -> dict[str, float]:
    row = {"system": system, "folder": str(models), "beam": beam, "batch": batch}
    row |= {"is_forced": not options.run, "seconds": options.seconds, "threads": options.threads}
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def versions(threads: int) -> str:
    import ctranslate2
    import torch
    import transformers

    processor = f"{platform.processor() or platform.machine()}, {threads} threads"
    return (
        f"{processor}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, ctranslate2 {ctranslate2.__version__}"
    )


def measure(
    system: str,
    folder: str,
    beam: int,
    batch: str,
    is_forced: bool,
    seconds: float,
    threads: int,
) -> dict[str, float]:
    """Output tokens per second for batches spread evenly over the file, peak memory in MB, and CPU seconds
    until the model is ready.
    """
    keep_freed_memory()  # for every system, as our command does
    sources = json.loads((Path(folder) / "sources.json").read_text())
    batches = list(in_batches(sources, batch, beam))
    translate = SYSTEMS[system](Path(folder), beam, is_forced, threads)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    for index in (0, -1):
        translate(batches[index])  # warm
    order = sorted(range(len(batches)), key=lambda number: (number * 0.618034) % 1)
    tokens, start = 0, time.perf_counter()
    for number in order:
        tokens += translate(batches[number])
        if time.perf_counter() - start > seconds:
            break
    spent = time.perf_counter() - start
    start_up = usage.ru_utime + usage.ru_stime
    return {"rate": tokens / spent, "memory": peak_memory(), "start": start_up}


def peak_memory() -> float:
    """The peak memory of this program since its start, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def in_batches(sources: list[list[int]], batch: str, beam: int) -> Iterator[list[list[int]]]:
    rest = sorted(sources, key=len, reverse=True)
    while rest:
        budget = int(batch.removesuffix("t"))
        size = max(1, budget // (len(rest[0]) * beam)) if batch.endswith("t") else budget
        yield rest[:size]
        rest = rest[size:]


if __name__ == "__main__":
    main()
