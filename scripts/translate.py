"""Translate standard input, line by line: the same program as `transformer translate`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["translate", *sys.argv[1:]]))
