"""Find the sentences nearest to each line: the same program as `transformer nearest`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["nearest", *sys.argv[1:]]))
