"""The name under which the project is installed, and its version."""

DISTRIBUTION = "attention-is-all-you-need-transformer"
"""The name in pyproject.toml. A package `transformer` on PyPI may be somebody else's."""


def version() -> str:
    from importlib import metadata  # deferred, because this import is as slow as the whole command line

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a checkout
        return "(not installed)"
