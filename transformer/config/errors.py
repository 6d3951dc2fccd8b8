"""Errors in what the user has typed, with suggestions."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A command line or a settings file that cannot be understood; the message is one line for the user."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`; did you mean NEAREST?`, or an empty string if no valid name is similar.

    A setting of the same name in another section is preferred to a similar spelling.
    """
    names = list(valid)
    elsewhere = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]]
    nearest = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)
    nearest = nearest or difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
