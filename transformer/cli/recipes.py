"""`transformer recipes`: list the recipes that come with the package, or copy one to edit it."""

import shlex
from pathlib import Path

from transformer.config.checks import require
from transformer.config.parser import command_parser
from transformer.config.recipes import copy_recipe, overview

DESCRIPTION = """List the recipes that come with the package: what each needs, its training time and its
score. `transformer train --config NAME` trains a recipe. `transformer recipes copy NAME` copies a recipe's
file into the current folder, so that you can edit it."""


def run(arguments: list[str], prog: str) -> None:
    usage = "%(prog)s [copy NAME [FILE]]"
    parser = command_parser(prog, DESCRIPTION, usage=usage)
    parser.add_argument("action", nargs="?", choices=("copy",), help="copy: write a recipe's file")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the recipe to copy")
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="file to write; it must not exist yet (default: NAME.yaml)"
    )
    options = parser.parse_args(arguments)
    if options.action is None:
        print("\n".join(overview()))
        return
    require(options.name is not None, "copy needs the name of a recipe; transformer recipes lists them")
    written = copy_recipe(options.name, None if options.file is None else Path(options.file))
    print(f"wrote {written}; train with: transformer train --config {shlex.quote(str(written))}")
