"""Train a model from settings, or continue a run: the same program as `transformer train`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
