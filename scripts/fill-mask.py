"""Fill the gaps of sentences with a masked language model: the same program as `transformer fill-mask`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["fill-mask", *sys.argv[1:]]))
