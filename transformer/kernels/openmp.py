"""How long the threads of a parallel computation on the CPU spin while they wait for each other."""

import os
import sys

WAITING = {"GOMP_SPINCOUNT": "20000"}
"""Spins of GNU's OpenMP before a waiting thread sleeps, instead of 300,000, which are milliseconds.

If other programs use the cores too, a thread that spins may keep a core from the very thread that it waits
for. Training with two threads is then several times slower than with one; with this value it is not, and on a
quiet machine it is as fast as before (`benchmarks/contention.py`). Other OpenMP libraries, as in torch for
macOS and Windows, ignore the variable.
"""
SETTINGS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"""The variables by which a user decides it."""


def wait_briefly() -> None:
    """Set `WAITING` for this process and its children, unless the environment says how to wait.

    OpenMP reads the environment when torch is imported; after that, nothing changes.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTINGS):
        os.environ.update(WAITING)
