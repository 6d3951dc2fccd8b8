"""The process keeps freed memory, unless the user has configured the allocator."""

import ctypes
import os
import subprocess
import sys

import pytest

from transformer.cli import main
from transformer.config import Settings
from transformer.kernels.allocator import (
    KEPT_SHAPES,
    OLDER_NAMES,
    SHAPE_CACHES,
    keep_few_shapes,
    keep_freed_memory,
)
from transformer.recipe import train

FAULTS = """
import resource
from transformer.kernels.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    return [bytearray(size) for size in (40_000_000, 5_000_000, 300_000)]

keep_freed_memory()
use()
before = faults()
for _ in range(5):
    use()
print(faults() - before)
"""


def new_pages(environment):
    """Page faults of a program that allocates and frees 45 MB five times, after a first time not counted."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc"
)
def test_memory_that_was_freed_is_not_asked_for_again():
    assert new_pages({}) < 500
    # the user's setting is respected
    assert new_pages({"MALLOC_TRIM_THRESHOLD_": "131072"}) > 20_000
    for tunable in ("trim_threshold", "mmap_threshold"):
        other = "glibc.malloc.check=0:" if tunable == "mmap_threshold" else ""
        assert new_pages({"GLIBC_TUNABLES": f"{other}glibc.malloc.{tunable}=131072"}) > 20_000
    assert new_pages({"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=1024"}) < 500  # not about memory


def test_every_command_and_every_training_keeps_freed_memory(monkeypatch, tmp_path):
    called = []
    for module in ("transformer.cli", "transformer.recipe"):
        monkeypatch.setattr(f"{module}.keep_freed_memory", lambda module=module: called.append(module))
    assert main(["--version"]) == 0
    monkeypatch.setattr("transformer.recipe.set_up", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(Settings(output=str(tmp_path / "run")))
    assert called == ["transformer.cli", "transformer.recipe"]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("transformer.kernels.allocator.sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    keep_freed_memory()


def test_few_shapes_are_kept_unless_the_user_has_said_how_many(monkeypatch):
    first, second = SHAPE_CACHES
    older = OLDER_NAMES[second]
    for name in (second, older):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(first, "7")
    keep_few_shapes()
    assert (os.environ[first], os.environ[second]) == ("7", str(KEPT_SHAPES))
    monkeypatch.delenv(second)
    monkeypatch.setenv(older, "7")
    keep_few_shapes()
    assert second not in os.environ


@pytest.mark.parametrize("command", ["serve", "train"])
def test_caches_are_limited_before_torch_reads_the_variables(command):
    options = {"serve": ["--run", "somewhere"], "train": ["--config", "toyland"]}
    program = (
        "import sys\n"
        f"import transformer.cli.{command} as command\n"
        "def check(): assert 'torch' not in sys.modules; sys.exit(7)\n"
        "command.keep_few_shapes = check\n"
        f"command.run({options[command]}, '{command}')\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
