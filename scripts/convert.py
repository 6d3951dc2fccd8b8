"""Turn a Marian model into a run: the same program as `transformer convert`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
