"""The CPU time, wall time and memory that a corpus of millions of pairs takes before the first update.

TRANSFORMER_DATA=FOLDER python benchmarks/corpus_scale.py --work EMPTY_FOLDER --pairs 4500000

Writes a corpus with sentences about as long as WMT14's into the folder. Then starts twice, each time in a new
process. The first start finds an empty cache of `datasets`. The second start, like that of a resumed run,
finds the tables in the cache and loads its tokenizer. The steps are those of `transformer.preparation`:

`imports`      the packages that training needs
`text`         the files as an Arrow table
`vocabulary`   joint BPE with 37,000 entries, or loading it
`tokens`       the table as ids
`order`        lengths, batches and the order of the first epoch
`hash`         the hash of all tokens, which several processes and resumed runs compare

CPU time includes the threads and children of the process. Memory is the largest sum of the anonymous memory
of the process and its children during the step, sampled every 20 ms. This leaves out files that are mapped
into memory, because the system can drop them at any time.

The last column extrapolates to 36 million pairs, the size of WMT14 English-French. The time of every step is
proportional to the number of pairs, except for imports and vocabulary. The vocabulary is trained on at most a
million lines, so use more than half a million pairs to extrapolate. (Choosing the lines takes another second
or two for each million pairs. The column leaves this out.)
"""

import argparse
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

LARGE = 36_000_000
VOCABULARY = 37_000
PARTS = (
    ("tatoeba_en_de/train.{}.xz", 160_000),
    ("europarl_en_de_20k/train.{}.xz", 20_000),
    ("wmt_newstest/news2008-2012.{}.xz", 20_000),
    ("multi30k/train.{}", 29_000),
)
"""The files that the corpus is made of, and the number of pairs from the start of each."""
WORDS = (3, 38)
"""Sentences are joined until they have a number of English words drawn from this range."""
LONG_SHARE, EMPTY_SHARE = 0.003, 0.002
"""The shares of pairs that are longer than `data.max_tokens`, and of pairs with an empty side."""
CONSTANT = ("imports", "vocabulary")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a folder for the corpus and the cache")
    parser.add_argument("--pairs", type=int, default=300_000)
    parser.add_argument("--keep", action="store_true", help="keep the corpus and the cache for another run")
    parser.add_argument("--start", choices=("first", "second"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = options.work.resolve()
    if options.start:
        run_steps(work, is_first=options.start == "first")
        return
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "train.de").exists():
        write_corpus(work, options.pairs)
    print(described(work, options.pairs), flush=True)
    shutil.rmtree(work / "cache", ignore_errors=True)
    for start in ("first", "second"):
        print_table(start, options.pairs, *watched_start(start, work))
    if not options.keep:
        shutil.rmtree(work)


def described(work: Path, pairs: int) -> str:
    size = sum((work / f"train.{language}").stat().st_size for language in ("en", "de"))
    names = ("torch", "datasets", "pyarrow", "sentencepiece", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return (
        f"{pairs:,} pairs, {size / 1e9:.2f} GB of text; {len(os.sched_getaffinity(0))} cores, "
        f"load {os.getloadavg()[0]:.1f}; {versions}, Python {sys.version.split()[0]}"
    )


def write_corpus(work: Path, pairs: int) -> None:
    """Pairs of joined sentences, drawn from real ones with a fixed seed."""
    pool = list(real_pairs(Path(os.environ["TRANSFORMER_DATA"])))
    generator = random.Random(1)
    # Use other names until the files are complete: an interrupted run must not leave a partial corpus.
    parts = [work / f"train.{language}.part" for language in ("en", "de")]
    with parts[0].open("w") as sources, parts[1].open("w") as targets:
        for _ in range(pairs):
            kind = generator.random()
            words = 400 if kind < LONG_SHARE else generator.randint(*WORDS)
            source, target = joined(pool, words, generator)
            sources.write(f"{source}\n")
            targets.write("\n" if kind > 1 - EMPTY_SHARE else f"{target}\n")
    for part in parts:
        part.rename(part.with_suffix(""))


def real_pairs(data: Path) -> Iterator[tuple[str, str]]:
    for name, count in PARTS:
        sides = []
        for language in ("en", "de"):
            path = data / name.format(language)
            with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
                sides.append(file.read().split("\n")[:count])
        yield from ((source, target) for source, target in zip(*sides, strict=True) if source and target)


def joined(pool: list[tuple[str, str]], words: int, generator: random.Random) -> tuple[str, str]:
    chosen: list[tuple[str, str]] = []
    while words > 0:
        chosen.append(generator.choice(pool))
        words -= chosen[-1][0].count(" ") + 1
    return " ".join(pair[0] for pair in chosen), " ".join(pair[1] for pair in chosen)


def print_table(start: str, pairs: int, steps: list[dict[str, Any]], memory: dict[str, int]) -> None:
    columns = ("CPU s", "wall s", "memory, MB", "CPU s a million", "CPU s, 36 million")
    print(f"\n{start + ' start':<14}" + "".join(f"{column:>18}" for column in columns))
    total = [0.0] * 5
    for step in steps:
        factor = 1.0 if step["name"] in CONSTANT else LARGE / pairs
        cpu, wall, most = step["cpu"], step["wall"], memory[step["name"]] / 1e6
        figures = [cpu, wall, most, 1e6 * cpu / pairs, factor * cpu]
        total = [before + figure for before, figure in zip(total, figures, strict=True)]
        total[2] = max(total[2] - most, most)
        print(
            f"{step['name']:<14}" + "".join(f"{figure:>18,.1f}" for figure in figures) + f"  {step['note']}"
        )
    print(f"{'all':<14}" + "".join(f"{figure:>18,.1f}" for figure in total), flush=True)


def watched_start(start: str, work: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The time that each step of a start has used, and the peak of memory in each step."""
    command = [sys.executable, __file__, "--work", str(work), "--start", start]
    environment = os.environ | {"HF_HOME": str(work / "cache")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    memory: dict[str, int] = defaultdict(int)
    steps: list[dict[str, Any]] = []

    def watch() -> None:
        while size := sum(map(anonymous_bytes, family(process.pid))):
            step = STEPS[len(steps)] if len(steps) < len(STEPS) else STEPS[-1]
            memory[step] = max(memory[step], size)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert process.stdout is not None
    steps.extend(map(json.loads, process.stdout))
    if process.wait():
        sys.exit(f"the {start} start failed")
    watcher.join()
    return steps, memory


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants; those that have ended are left out."""
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def run_steps(work: Path, *, is_first: bool) -> None:
    """Start as a training run does; prints the time of each step as a line of JSON."""
    found: dict[str, Any] = {"work": work}
    used, wall = 0.0, time.perf_counter()  # the process has used some time before this line, for its start
    for name in STEPS:
        note = STEP[name](found) if is_first or name != "vocabulary" else load_vocabulary(found)
        cpu, now = sum(os.times()[:4]), time.perf_counter()
        step = {"name": name, "cpu": cpu - used, "wall": now - wall, "note": note}
        print(json.dumps(step), flush=True)
        used, wall = cpu, now


def imports(found: dict[str, Any]) -> str:
    import datasets

    import transformer.cli.train
    import transformer.recipe
    import transformer.tasks.translation

    found["modules"] = datasets, transformer
    return f"{len(sys.modules):,} modules"


def text(found: dict[str, Any]) -> str:
    from transformer.config import DataConfig, Settings
    from transformer.tasks.translation import TranslationTask

    data = DataConfig(train=str(found["work"] / "train"), vocab_size=VOCABULARY)
    found["task"] = TranslationTask(Settings(data=data))
    return f"{len(found['task'].table):,} pairs"


def vocabulary(found: dict[str, Any]) -> str:
    found["task"].train_tokenizer().save(found["work"] / "tokenizer.model")
    return load_vocabulary(found)


def load_vocabulary(found: dict[str, Any]) -> str:
    from transformer.data.tokenizers.loading import load_tokenizer

    found["tokenizer"] = load_tokenizer(found["work"] / "tokenizer.model")
    return f"{found['tokenizer'].vocab_size:,} entries"


def tokens(found: dict[str, Any]) -> str:
    from transformer.data.tokenizing import tokenize_pairs

    found["pairs"], counts = tokenize_pairs(found["task"].table, found["tokenizer"], max_tokens=256)
    return str(counts)


def order(found: dict[str, Any]) -> str:
    from transformer.data.batches import TokenBatches

    found["batches"] = TokenBatches(found["pairs"], tokens_per_batch=25_000, seed=1)
    return f"{len(found['batches'].plan):,} batches"


def fingerprint(found: dict[str, Any]) -> str:
    return str(found["batches"].fingerprint[:12])


STEP: dict[str, Callable[[dict[str, Any]], str]] = {
    "imports": imports,
    "text": text,
    "vocabulary": vocabulary,
    "tokens": tokens,
    "order": order,
    "hash": fingerprint,
}
"""The steps of a start. Each adds its result to `found`, and returns a note for the table."""
STEPS = tuple(STEP)

if __name__ == "__main__":
    main()
