"""Noticing that updates become much slower, for example because other programs use the CPU's cores."""

from collections import deque
from statistics import median

WINDOW = 10
"""The number of updates over which the median is taken. A single slow update hardly changes the median."""
FACTOR = 3.0


class Slowdown:
    """Compares the median time of the latest updates with the lowest such median, and gives advice once.

    Threads wait for each other after every operation, so two threads can be slower than one if other programs
    are using the cores (docs/training.md).
    """

    def __init__(self, threads: int) -> None:
        self.latest = deque[float](maxlen=WINDOW)
        self.fastest = float("inf")
        self.is_watching = threads > 1

    def advice(self, seconds: float) -> str | None:
        """Record the duration of an update, and return a line of advice for the user, or None."""
        self.latest.append(seconds)
        if not self.is_watching or len(self.latest) < WINDOW:
            return None
        usual = median(self.latest)
        self.fastest = min(self.fastest, usual)
        if usual < FACTOR * self.fastest:
            return None
        self.is_watching = False
        return (
            f"updates take {usual / self.fastest:.0f} times as long as before; if other programs are using "
            "the cores, training with OMP_NUM_THREADS=1 is faster (docs/training.md)"
        )
