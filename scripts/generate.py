"""Continue a text with a language model: the same program as `transformer generate`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
