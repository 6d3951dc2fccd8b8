"""A training process for torchrun. In the first attempt, process 1 fails at update 4: it dies, or it receives
the signal named by the environment variable FAULT."""

import os
import signal
import sys

from transformer.cli import main
from transformer.training.update_rule import UpdateRule

original = UpdateRule.set_rate


def set_rate(rule: UpdateRule, step: int) -> float:
    if step == 4 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        if "FAULT" not in os.environ:
            os._exit(9)
        os.kill(os.getpid(), signal.Signals[os.environ["FAULT"]])
    return original(rule, step)


UpdateRule.set_rate = set_rate  # type: ignore[method-assign]
sys.exit(main(sys.argv[1:]))
