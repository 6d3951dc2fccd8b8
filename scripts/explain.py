"""Print the paper's equations with the values of a sentence: the same program as `transformer explain`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["explain", *sys.argv[1:]]))
