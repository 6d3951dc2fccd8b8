"""Score given translations: the same program as `transformer score`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
