"""Draw the curves of runs as a picture: the same program as `transformer plot`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
