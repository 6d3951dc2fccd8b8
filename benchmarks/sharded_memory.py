"""The memory of real FSDP processes on a CPU, compared with what `transformer train --dry-run` predicts.

python benchmarks/sharded_memory.py [--processes 1 2 4] [--layers 8] [--width 1024] [--keep]

For each number, that many processes (gloo, float32, one thread each) train a language model for two updates
of a few tokens, so that activations are small, and save it. Prints for each process, in GiB:

predicted  what the dry run says: weights, gradients, moments and gathered layers
start      resident memory before the model is built: Python, torch and the text
updates    peak resident memory until the end of the backward pass of the second update
more       updates − start − predicted: what the prediction leaves out
saved      peak resident memory after a checkpoint was written: by the first process alone (whole), or from
           the parts that every process had written (parts)

glibc returns freed memory to the system, unless --keep is given: then it keeps some, as in `transformer
train`. Linux only.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from measuring import machine
from torch import nn

from transformer import preparation
from transformer.config import DataConfig, ModelConfig, Settings, TrainingConfig
from transformer.kernels.allocator import keep_freed_memory
from transformer.recipe import plan, train
from transformer.training import saving

GIB = 2**30
UPDATES = 2
CHARACTERS = 4_000
"""Size of the vocabulary: as many different Chinese characters."""
LENGTH = 32
RETURNING = {"MALLOC_TRIM_THRESHOLD_": "131072"}
"""glibc's own default, which lets it return large blocks at once."""
COLUMNS = ("processes", "checkpoint", "rank", "predicted", "start", "updates", "more", "saved")


def write_text(folder: Path) -> None:
    """Lines of a few characters each, such that every character occurs."""
    starts = range(0, 4 * CHARACTERS, LENGTH // 2)
    lines = (
        "".join(chr(0x4E00 + (start + place) % CHARACTERS) for place in range(LENGTH // 2))
        for start in starts
    )
    (folder / "text").write_text("\n".join(lines))


def settings_for(folder: Path, layers: int, width: int) -> Settings:
    return Settings(
        model=ModelConfig(
            kind="decoder_only",
            d_model=width,
            num_heads=width // 64,
            d_ff=4 * width,
            num_layers=layers,
            max_positions=LENGTH,
        ),
        data=DataConfig(
            train=str(folder / "text"),
            valid=None,
            test=None,
            tokenizer="characters",
            vocab_size=2 * CHARACTERS,
            context=LENGTH,
            max_tokens=LENGTH,
        ),
        training=TrainingConfig(
            parallel="fsdp",
            max_steps=UPDATES,
            log_every=1,
            save_every=100,
            warmup_steps=10,
            tokens_per_batch=2 * LENGTH,
        ),
        output=str(folder / "run"),
        device="cpu",
        precision="float32",
    )


def resident(name: str) -> int:
    """Bytes of this process's resident memory: VmRSS is the present value, VmHWM the peak."""
    return 1024 * int(re.findall(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


def train_here(settings: Settings, checkpoint: str) -> None:
    """Train in this process and print the bytes of `start`, `updates` and `saved`."""
    keep_freed_memory()  # as every command does; it leaves an environment with RETURNING as it is
    saving.has_room_for = lambda _: checkpoint == "whole"
    measured = []
    make_model = preparation.make_model

    def measure_and_make(*arguments: Any) -> nn.Module:
        measured.append(resident("VmRSS"))
        return make_model(*arguments)

    def figures(_: nn.Module) -> dict[str, float]:
        measured.append(resident("VmHWM"))
        return {}

    preparation.make_model = measure_and_make
    train(settings, figures=figures)
    print(measured[0], measured[-1], resident("VmHWM"))


def train_in(processes: int, checkpoint: str, sizes: list[str], keeps: bool) -> list[list[int]]:
    """The bytes that each process prints."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        write_text(Path(folder))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
        place |= {} if keeps else RETURNING
        own = [sys.executable, __file__, *sizes, "--member", folder, checkpoint]
        members = [
            subprocess.Popen(
                own,
                env={**os.environ, **place, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        printed = [member.communicate()[0] for member in members]
        if any(member.returncode for member in members):
            raise SystemExit(f"{processes} processes: one of them has failed")
    return [[int(word) for word in lines.splitlines()[-1].split()] for lines in printed]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=1024, help="a multiple of 64")
    parser.add_argument("--keep", action="store_true", help="let glibc keep freed memory")
    parser.add_argument("--member", nargs=2, help=argparse.SUPPRESS)  # one of the processes that are measured
    options = parser.parse_args()
    if options.member is not None:
        folder, checkpoint = options.member
        train_here(settings_for(Path(folder), options.layers, options.width), checkpoint)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder))
        needs = {
            need.processes: need for need in plan(settings_for(Path(folder), options.layers, options.width))
        }
    print(machine(torch.device("cpu")))
    print(f"{next(iter(needs.values())).parameters:,} parameters; memory of each process in GiB")
    print("".join(f"{name:>12}" for name in COLUMNS))
    sizes = ["--layers", str(options.layers), "--width", str(options.width)]
    for checkpoint in ("parts", "whole"):
        for processes in options.processes:
            if processes == 1 and checkpoint == "parts":
                continue  # with a single process nothing is divided
            for rank, (start, updates, saved) in enumerate(
                train_in(processes, checkpoint, sizes, options.keep)
            ):
                predicted = needs[processes].total
                row = (predicted, start, updates, updates - start - predicted, saved)
                figures = "".join(f"{number / GIB:12.2f}" for number in row)
                print(f"{processes:12}{checkpoint:>12}{rank:12}{figures}", flush=True)


if __name__ == "__main__":
    main()
