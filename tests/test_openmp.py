"""The command sets how OpenMP's threads wait before torch is imported, never over the user's own value."""

import os
import subprocess
import sys

import pytest

from transformer.kernels.openmp import SETTINGS, WAITING, wait_briefly

# prints what a command sees just before it imports torch
SHOW = """
import os, sys
from transformer import cli
def show(*_):
    assert "torch" not in sys.modules
    print({name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ})
    return 0
cli.dispatch = show
sys.exit(cli.main(["translate"]))
"""


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, WAITING),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_a_command_sets_it_before_torch_is_imported(given, seen):
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=kept | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(seen)


def test_a_library_that_has_torch_is_left_alone(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    import torch  # noqa: F401

    wait_briefly()
    assert not any(name in os.environ for name in SETTINGS)
