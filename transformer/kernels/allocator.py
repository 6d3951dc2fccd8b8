"""The C library's allocator, which decides whether a program asks for the same memory again and again."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 1_000_000_000


def keep_freed_memory() -> None:
    """Have glibc keep up to a gigabyte of what this process frees.

    By itself it returns it to the system, and the next update asks for the same pages. Other C libraries, and
    an environment that sets `MALLOC_…` itself, stay as they are.
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
