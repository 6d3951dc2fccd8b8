"""Latency and throughput of `transformer serve` under many clients, compared with loops over `Translator`.

python benchmarks/serving.py --run RUN [--data TEXT] [--clients 20] [--requests 2000]

First translates the lines without a server, with `Translator`: a fifth of the lines with one call for each,
and all lines in one call. Then starts a server on a free port. Each client has one connection and sends one
line per request, one request after the other. Prints the speed of `Translator`, the server's throughput, the
latency as the clients see it, the mean size of the server's batches, its errors, the answers that differ from
those of `Translator`, and the server's memory before and after each fifth of the requests (Linux). Needs the
extra `serve`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import machine

from transformer.checkpoint.opening import open_run
from transformer.data.corpus import load_parallel
from transformer.decoding.translator import Translator

PARTS = 5


class Reply(NamedTuple):
    """One request, its translation, whether it succeeded, and its time in seconds."""

    line: str
    is_good: bool
    translation: str
    seconds: float


def start(run: str) -> tuple["subprocess.Popen[str]", int]:
    """Start a server; returns its process and its port as soon as it listens."""
    command = [sys.executable, "-m", "transformer", "serve", "--run", run, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    banner = process.stderr.readline()
    if not (found := re.search(r":(\d+) \(", banner)):
        sys.exit(banner + process.stderr.read())
    return process, int(found[1])


def client(port: int, lines: Sequence[str]) -> list[Reply]:
    """Send the requests of one client over one connection."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    replies = []
    for line in lines:
        body = json.dumps({"lines": [line]}).encode()
        started = time.perf_counter()
        connection.request("POST", "/translate", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        seconds = time.perf_counter() - started
        is_good = response.status == 200
        replies.append(
            Reply(line, is_good, answer["results"][0][0]["translation"] if is_good else "", seconds)
        )
    connection.close()
    return replies


def batches(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health")
    found: int = json.loads(connection.getresponse().read())["batches"]
    connection.close()
    return found


def memory(process: "subprocess.Popen[str]") -> float:
    """The server's resident memory in MiB, or NaN if the system does not report it."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmRSS:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def compared_with_loops(run: str, lines: Sequence[str]) -> dict[str, str]:
    """Print the speed of both loops; returns the translations of the first of them."""
    translator = Translator.from_pretrained(run, device="cpu")
    translator.translate(lines[:20])  # warm-up
    sample = lines[: len(lines) // PARTS]
    started = time.perf_counter()
    found = {line: translator.translate([line])[0] for line in sample}
    print(f"loop, one line per call   {len(sample) / (time.perf_counter() - started):8.1f} lines a second")
    started = time.perf_counter()
    translator.translate(lines)
    print(f"all lines in one call     {len(lines) / (time.perf_counter() - started):8.1f} lines a second")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--data", help="text, named as in data.test (default: the run's)")
    parser.add_argument("--clients", type=int, default=20, help="number of clients at the same time")
    parser.add_argument("--requests", type=int, default=2000, help="requests of all clients together")
    options = parser.parse_args()

    data = open_run(options.run, task="translation").settings.data
    sources = list(load_parallel(options.data or str(data.test), data.source, data.target)["source"])
    lines = [sources[number % len(sources)] for number in range(options.requests)]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{machine(torch.device('cpu'))}{load}; {options.clients} clients, {len(lines)} requests")
    expected = compared_with_loops(options.run, lines)

    process, port = start(options.run)
    try:
        client(port, lines[:20])  # warm-up
        before = batches(port)
        used, replies, seconds = [memory(process)], [], 0.0
        with ThreadPoolExecutor(options.clients) as pool:
            for part in range(PARTS):
                own = lines[part * len(lines) // PARTS : (part + 1) * len(lines) // PARTS]
                shares = [own[number :: options.clients] for number in range(options.clients)]
                started = time.perf_counter()
                for found in pool.map(lambda share: client(port, share), shares):
                    replies += found
                seconds += time.perf_counter() - started
                used.append(memory(process))
        size = len(replies) / (batches(port) - before)
    finally:
        process.terminate()
        code = process.wait(60)
    print(f"server                    {len(replies) / seconds:8.1f} lines a second, {size:.1f} lines a batch")
    times = np.percentile([1000 * reply.seconds for reply in replies], [50, 95, 99, 100])
    print("latency, milliseconds     median {:.0f}, 95 % {:.0f}, 99 % {:.0f}, longest {:.0f}".format(*times))
    print(f"errors                    {sum(not reply.is_good for reply in replies)}; exit code {code}")
    known = [reply for reply in replies if reply.line in expected]
    different = sum(reply.translation != expected[reply.line] for reply in known)
    print(f"differ from the loop      {different} of {len(known)} translations")
    print(f"memory, MiB               {', '.join(f'{value:.0f}' for value in used)}")


if __name__ == "__main__":
    main()
