"""The name under which the project is installed, and its version."""

DISTRIBUTION = "attention-is-all-you-need-transformer"
"""The name in pyproject.toml; on PyPI, `transformer` is reserved by others."""


def version() -> str:
    from importlib import metadata  # deferred: it takes as long to import as the whole command line

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run from a checkout
        return "(not installed)"
