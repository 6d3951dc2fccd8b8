"""Average the last checkpoints of a run: the same program as `transformer average`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["average", *sys.argv[1:]]))
