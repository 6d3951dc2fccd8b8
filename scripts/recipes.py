"""List or copy the recipes: the same program as `transformer recipes`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["recipes", *sys.argv[1:]]))
