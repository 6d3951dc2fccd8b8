"""Tuning glibc's allocator, so that each update reuses memory instead of asking the system for it again."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 1_000_000_000


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte of freed memory in this process.

    By default glibc returns large blocks to the system at once. Every update then asks for the same pages
    again, and the system zeroes each of them. Nothing changes with another C library, or if the environment
    sets a `MALLOC_…` variable.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a static build, or another C library
        return
    else:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
