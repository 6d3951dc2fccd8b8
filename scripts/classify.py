"""Name the class of each line: the same program as `transformer classify`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["classify", *sys.argv[1:]]))
