"""How long the threads of a parallel computation on the CPU spin while they wait for each other."""

import os
import sys

WAITING = {"GOMP_SPINCOUNT": "20000"}
"""How many times a waiting thread of GNU's OpenMP spins before it sleeps. The default of 300,000 takes
milliseconds.

If other programs use the cores too, a spinning thread may occupy the core that the other thread needs. With
the default, training with two threads can then be several times slower than with one. This value halves that
loss, and costs little on a quiet machine (`benchmarks/contention.py`, docs/performance.md). Other OpenMP
libraries, as in torch for macOS and Windows, ignore the variable.
"""
SETTINGS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
"""The environment variables by which a user decides how threads wait."""


def wait_briefly() -> None:
    """Set `WAITING` for this process and its children, unless the user has set one of `SETTINGS`.

    OpenMP reads the environment when torch is imported, so a call after that changes nothing.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in SETTINGS):
        os.environ.update(WAITING)
