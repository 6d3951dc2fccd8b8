"""Limits how long the CPU threads of a parallel computation spin while they wait for each other."""

import os
import sys

WAITING = {"GOMP_SPINCOUNT": "20000"}
"""How many times a waiting thread of GNU's OpenMP spins before it sleeps. The default of 300,000 takes
milliseconds.

If other programs use the cores too, a spinning thread may occupy the core that another thread needs. With the
default, training with two threads can then be several times slower than with one thread. This value halves
the loss of speed, and costs little on an otherwise idle machine (`benchmarks/contention.py`,
docs/performance.md). Other OpenMP libraries, as in torch for macOS and Windows, ignore the variable.
"""
SETTINGS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"""The environment variables with which a user controls how threads wait."""


def wait_briefly() -> None:
    """Set `WAITING` for this process and its children, unless the user has set one of `SETTINGS`.

    OpenMP reads the environment when torch is imported, so a call after the import is a no-op.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTINGS):
        os.environ.update(WAITING)
