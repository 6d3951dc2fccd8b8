"""A training process under torchrun in which, at the first start, something happens to process 1 at update 4:
it dies, or it gets the signal that the environment variable FAULT names."""

import os
import signal
import sys

import transformer.training.loop as loop
from transformer.cli import main

original = loop.learning_rate


def rate(step: int, *rest: object) -> float:
    if step == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        if "FAULT" not in os.environ:
            os._exit(9)
        os.kill(os.getpid(), signal.Signals[os.environ["FAULT"]])
    return original(step, *rest)


loop.learning_rate = rate
sys.exit(main(sys.argv[1:]))
