"""A training process under torchrun in which, at the first start, process 1 dies before update 4."""

import os
import sys

import transformer.training.loop as loop
from transformer.cli import main

original = loop.learning_rate


def rate(step: int, *rest: object) -> float:
    if step == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os._exit(9)
    return original(step, *rest)


loop.learning_rate = rate
sys.exit(main(sys.argv[1:]))
