"""Compare two systems on one test text: the same program as `transformer compare`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
