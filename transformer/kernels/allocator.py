"""Memory settings for CPUs: how much freed memory glibc keeps, and how many shapes torch and oneDNN cache."""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT_BYTES = 1_000_000_000
SHAPE_CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
"""Environment variables that limit two caches, torch's and oneDNN's.

The caches keep the code and data that oneDNN has prepared for each shape of a matrix product.
"""
OLDER_NAMES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "DNNL_PRIMITIVE_CACHE_CAPACITY"}
"""The names that oneDNN reads if the newer ones are not set."""
KEPT_SHAPES = 64


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte of freed memory in this process.

    By default, glibc returns large blocks to the system at once, so every training update asks for the same
    pages again, and the system zeroes the pages each time. This function is a no-op with another C library,
    or if the environment configures malloc, with a `MALLOC_…` variable or with `glibc.malloc.…` in
    `GLIBC_TUNABLES`.
    """
    if sys.platform != "linux" or is_malloc_configured():
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a static build, or another C library
        return
    else:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def is_malloc_configured() -> bool:
    has_variable = any(name.startswith("MALLOC_") for name in os.environ)
    return has_variable or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")


def keep_few_shapes() -> None:
    """Limit the caches of `SHAPE_CACHES` to `KEPT_SHAPES` shapes; call this before torch is imported.

    Almost every batch of a server or a training has a new shape. By default, each cache keeps the last 1,024
    shapes, so memory grows over thousands of requests (docs/serving.md) and over hundreds of updates
    (docs/training.md). A limit that is already set, even by its older name, is not changed.
    """
    for name in SHAPE_CACHES:
        if OLDER_NAMES.get(name, name) not in os.environ:
            os.environ.setdefault(name, str(KEPT_SHAPES))
