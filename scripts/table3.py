"""Print Table 3 of the paper next to the size of our models: the same program as `transformer table3`."""

import sys

from transformer.cli import main

if __name__ == "__main__":
    sys.exit(main(["table3", *sys.argv[1:]]))
