"""Write a model card for a run: the same program as `transformer card`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["card", *sys.argv[1:]]))
