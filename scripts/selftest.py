"""Compare this installation with independent implementations: the same program as `transformer selftest`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["selftest", *sys.argv[1:]]))
