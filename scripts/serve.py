"""Serve translation models over HTTP: the same program as `transformer serve`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
