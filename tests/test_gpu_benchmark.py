"""benchmarks/gpu.py on the CPU with tiny sizes: its output, and that a failing part does not stop others."""

import os
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch
from fork_server import python

from transformer.config import ModelConfig

ROOT = Path(__file__).parents[1]
TINY = ["--device", "cpu", "--sizes", "tiny", "--tokens", "100", "--vocabulary", "50"]
WITHOUT_DATASETS = """
import runpy, sys
sys.modules |= dict.fromkeys(["datasets", "jsonargparse"])
sys.argv = sys.argv[1:]
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("gpu")


def call(*options: str, code: str | None = None) -> tuple[int, str]:
    """Run `code`, or by default benchmarks/gpu.py; returns its exit code and output."""
    program = ["-c", code, "gpu.py"] if code else ["benchmarks/gpu.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python(), *program, *TINY, *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_training_and_saving_are_measured_without_the_packages_of_a_corpus():
    code, output = call("--only", "eager", "saving", "reader", code=WITHOUT_DATASETS)
    assert re.search(r"training tiny, eager, after \d+ s\n  [\d,]+ target tokens/s, [\d.]+ ms an upd", output)
    assert re.search(r"training waits \d+ ms, writing takes \d\.\d\d s", output)
    assert "FAILED: ModuleNotFoundError: import of datasets halted" in output  # the reader needs it
    assert (code, output.splitlines()[-1]) == (1, "failed: reader")


@pytest.mark.slow
def test_every_part_is_measured():
    code, output = call(
        "--minutes", "60", "--tokens", "600", "--train", "0.1", "--recipe", "configs/toyland.yaml"
    )
    assert "FAILED" not in output
    assert code == 0
    assert len(re.findall(r", after \d+ s$", output, re.MULTILINE)) == 13


@pytest.mark.slow
@pytest.mark.skipif(which("c++") is None, reason="the fake GPU is compiled")
@pytest.mark.usefixtures("gpu")
def test_the_roofline_counts_the_products_of_the_formula():
    """The count includes padding; attention's products, about 1 % here, are only in the formula."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/roofline.py", "--size", "base", "--batches", "1"]
    output = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    found = sum(
        float(tflop) for tflop in re.findall(r"^products of .*? +\d+ +([\d.]+)", output, re.MULTILINE)
    )
    batches = import_module("random_text").RandomPairs(
        30 * 25_000 // 28, vocab_size=37_000, tokens_per_batch=25_000
    )
    rows = batches.plan[1]
    widths = [np.full(len(rows), side[rows].max()) for side in (batches.source, batches.target)]
    expected = import_module("measuring").update_flops(ModelConfig(vocab_size=37_000), *widths)
    assert found == pytest.approx(expected / 1e12, rel=0.03)


def test_a_part_that_fails_or_takes_too_long_costs_only_itself(gpu, capsys):
    def good(_):
        yield "a figure"

    def broken(_):
        yield "half of it"
        raise RuntimeError("out of\nmemory")

    def endless(_):
        yield "begun"
        time.sleep(60)

    began = time.monotonic()
    parts = {"broken": (1.0, broken), "endless": (1.0, endless), "good": (1.0, good)}
    assert gpu.run(parts, None, 6.0) == ["broken", "endless"]
    assert time.monotonic() - began < 30
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines[:3] == ["half of it", "FAILED: RuntimeError: out of memory", "begun"]
    assert lines[3].startswith("FAILED: OutOfTimeError: more than ")
    assert lines[4:] == ["a figure"]


@pytest.mark.usefixtures("gpu")
def test_random_text_has_the_lengths_and_the_form_of_a_corpus():
    batches = import_module("random_text").RandomPairs(300, vocab_size=50, tokens_per_batch=400)
    assert sorted(torch.cat([torch.from_numpy(rows) for rows in batches.plan]).tolist()) == list(range(300))
    for rows in batches.plan:
        batch = batches.fetch(rows)
        assert max(batch.src_tokens.numel(), batch.tgt_tokens[:, 1:].numel()) <= 400
        assert (batch.src_tokens != 0).sum(dim=1).tolist() == batches.source[rows].tolist()
        assert (batch.tgt_tokens[:, 0] == 1).all()
        assert int((batch.tgt_tokens[:, 1:] == 2).sum()) == len(rows)
        assert int((batch.tgt_tokens[:, 1:] != 0).sum()) == batch.target_tokens
