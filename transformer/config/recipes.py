"""The recipes that come with the package: YAML files with complete settings, found by name."""

import textwrap
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from transformer.config.errors import UsageError, did_you_mean
from transformer.files import write_whole

PACKAGE = Path(__file__).parents[1]
FOLDER = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())
"""The folder of the recipes: inside the installed package or, in a checkout, next to the package."""


def recipe_names() -> list[str]:
    """Return the names of the recipes, such as `toyland` and, for the rows of Table 3, `table3/A1`."""
    paths = sorted(FOLDER.rglob("*.yaml"), key=lambda path: (len(path.parts), path))
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths]


def find_recipe(name: str) -> Path:
    """Return the file that `--config NAME` refers to, where NAME is a path or the name of a recipe."""
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    wanted = name.removesuffix(".yaml").removeprefix("configs/")
    if wanted in recipe_names():
        return FOLDER / f"{wanted}.yaml"
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(2, "no such file, and no recipe of this name; see transformer recipes", name)
    hint = did_you_mean(name, recipe_names()) or "; see transformer recipes"
    raise UsageError(f"--config {name}: no such file, and no recipe of this name{hint}")


def overview() -> Iterator[str]:
    """Yield each recipe's name, then its opening comment; all rows of Table 3 share one name and comment.

    The comment says what the recipe needs, how long it trains and which scores it reaches.
    """
    for name in sorted(recipe_names(), key=lambda name: name != "toyland"):  # toyland first: it needs no data
        if "/" not in name:
            yield from (name, indented(opening(FOLDER / f"{name}.yaml")))
    rows = ", ".join(name.partition("/")[2] for name in recipe_names() if name.startswith("table3/"))
    how = (
        "each recipe holds only what differs from the base model, so pass the base model first: "
        "--config wmt14_en_de_base --config table3/A1"
    )
    yield from ("table3/ROW", indented(f"The rows of Table 3, {rows}: {how}"))


def copy_recipe(name: str, path: Path | None) -> Path:
    """Copy a recipe to `path`, by default NAME.yaml in the current folder.

    Raises `UsageError` if `path` exists.
    """
    if name not in recipe_names():
        raise UsageError(f"no recipe is named {name}{did_you_mean(name, recipe_names())}")
    path = path or Path(f"{name.rpartition('/')[2]}.yaml")
    if path.exists():
        raise UsageError(f"{path} exists already; name another file")
    write_whole(path, (FOLDER / f"{name}.yaml").read_bytes())
    return path


def opening(path: Path) -> str:
    """Return the comment at the start of a recipe, without its commands."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in takewhile(lambda line: line[:1] == "#", lines))
    return " ".join(line for line in comments if not line.startswith("transformer "))


def indented(text: str) -> str:
    return textwrap.fill(text, 80, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
