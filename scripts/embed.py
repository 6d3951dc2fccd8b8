"""Turn each line into a vector: the same program as `transformer embed`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:]]))
