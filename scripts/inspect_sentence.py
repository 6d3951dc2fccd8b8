"""Show a sentence's attention, search and numbers: the same program as `transformer inspect`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["inspect", *sys.argv[1:]]))
