"""Score a trained model on a test text: the same program as `transformer evaluate`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
