"""Nothing requires POSIX. No other system was available, so these tests hide the functions it would lack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fork_server import python

ROOT = Path(__file__).parents[1]

WITHOUT_POSIX = """
import ctypes, importlib, os, pkgutil, shutil, signal, sys

# Other packages support other systems in their own way, so they are imported before anything is hidden.
import datasets, fastapi, jsonargparse, numpy, sacrebleu, safetensors.torch, sentencepiece, torch, tqdm
import uvicorn, yaml

# A fork of the server has imported the package, which must be imported again.
for name in [name for name in sys.modules if name.partition(".")[0] == "transformer"]:
    del sys.modules[name]

for module, names in {
    signal: ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer"),
    os: ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "fork", "getuid", "kill", "register_at_fork",
         "sched_getaffinity", "statvfs", "sysconf", "uname"),
}.items():
    for name in names:
        delattr(module, name)
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
    sys.modules[name] = None
shutil._use_fd_functions = False
sys.platform = sys.argv[1]
open_file = os.open

def open_no_folder(path, *arguments, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return open_file(path, *arguments, **options)

class CDLL(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name is None:
            raise OSError("no such library")
        super().__init__(name, *arguments, **options)

os.open, ctypes.CDLL = open_no_folder, CDLL

import transformer
from transformer.cli import main

for module in pkgutil.walk_packages(transformer.__path__, "transformer."):
    if module.name != "transformer.__main__":
        importlib.import_module(module.name)

def train(steps, *options):
    arguments = ["--output", "run", "--device", "cpu", "--training.max_steps", steps]
    arguments += ["--data.train", "toyland:train[:60]", "--data.valid", "toyland:valid[:8]"]
    arguments += ["--data.vocab_size", "330", "--data.max_tokens", "64", "--model.max_positions", "64"]
    arguments += ["--model.d_model", "16", "--model.num_heads", "2", "--model.num_layers", "1"]
    arguments += ["--model.d_ff", "32", "--decoding.beam_size", "2", "--decoding.max_extra", "4"]
    assert main(["train", *arguments, *options]) == 0

train("2", "--dry-run")
train("2")
train("3", "--resume")
assert main(["translate", "--run", "run", "--input", "in", "--output", "out"]) == 0
assert main(["evaluate", "--run", "run", "--data", "toyland:valid[:2]"]) == 0
assert main(["average", "--run", "run", "--last", "1"]) == 0
"""


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_importing_training_and_translating_need_no_posix(platform, tmp_path):
    (tmp_path / "in").write_text("The man sees the dog.\n\n")
    done = subprocess.run(
        [python(), "-c", WITHOUT_POSIX, platform],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "peak memory      unknown" in done.stdout
    assert (tmp_path / "run" / "last").read_text() == "step-00000003\n"
    assert len((tmp_path / "out").read_text().splitlines()) == 2
