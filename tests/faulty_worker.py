"""A training process for torchrun. In the first attempt, process 1 fails at update 4: it dies, or it receives
the signal named by the environment variable FAULT."""

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
