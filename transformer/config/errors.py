"""Help for error messages: suggestions, shortened quotations, and detecting that memory ran out."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A command line or a settings file that cannot be understood; the message is one line for the user."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `; did you mean NEAREST?`, or an empty string if no valid name is similar.

    A setting with the same name in another section is preferred to one with a similar name.
    """
    name, names = name[:100], list(valid)  # comparing names takes quadratic time
    elsewhere = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]]
    nearest = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)
    nearest = nearest or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def install_extra(name: str) -> str:
    """Return the part of an error message that tells the user how to install the extra `name`."""
    return f"install the extra in the project's folder: pip install -c constraints.txt -e '.[{name}]'"


def shortened(text: str, most: int = 80) -> str:
    """Return `text`; if it has more than `most` characters, `…` replaces its middle."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


OUT_OF_MEMORY = (
    "out of memory",  # CUDA
    "DefaultCPUAllocator",  # torch on a CPU
    "not enough memory",
    "annot allocate memory",  # the system
    "bad_alloc",  # a C++ library
    "failed to map segment",  # the dynamic linker, if it cannot load a library
    "Storage size calculation overflowed",  # torch, if the size in bytes exceeds 64 bits
)
"""Phrases in other libraries' error messages which show that memory ran out. The phrases are needed because
many of these errors are plain `RuntimeError`s."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the machine or of the GPU is exhausted."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        words in str(error) for words in OUT_OF_MEMORY
    )
