"""The command line: `transformer COMMAND …`. Only the module of the command that runs is imported."""

import atexit
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence

from transformer.cli.streams import STANDARD_OUTPUT, discard_standard_output, prepare_streams
from transformer.config.errors import UsageError, did_you_mean, is_out_of_memory, shortened
from transformer.kernels.allocator import keep_freed_memory
from transformer.kernels.openmp import wait_briefly
from transformer.messages import tell
from transformer.training.interruption import EXIT_CODE, SIGNALS, TrainingStopped, interrupting
from transformer.version import version

# Each command is a module with `run(arguments, prog) -> int | None`; `fill-mask` is `fill_mask.py`.
COMMANDS = {
    "train": "train a model, or continue an interrupted training run",
    "translate": "translate standard input, line by line",
    "evaluate": "score a trained model on a test set",
    "generate": "continue a prompt with a language model",
    "inspect": "write a page that shows how the model processes a sentence",
    "recipes": "list the recipes for train, or copy one to edit it",
    "explain": "print the paper's equations with their values for a sentence",
    "score": "compute the log-probability of given translations",
    "classify": "predict the class of each line of standard input",
    "fill-mask": "predict the tokens hidden by <mask> in each line",
    "embed": "compute a sentence vector for each line of standard input",
    "nearest": "find the indexed sentences most similar to each line",
    "serve": "serve translation models over HTTP, with a web page to try them",
    "average": "average the last checkpoints of a run",
    "plot": "draw attention, a search, training curves and other pictures",
    "compare": "compare two systems on one test set",
    "convert": "convert a Marian model to a run, or a run to Marian or CTranslate2",
    "card": "write a model card for a run, for the Hugging Face Hub",
    "table3": "print Table 3 of the paper with the size of our models",
    "selftest": "compare this installation with independent implementations",
}

OVERVIEW = """\
usage: transformer COMMAND [options]

The PyTorch reference implementation of "Attention Is All You Need".

{commands}

transformer COMMAND --help   show a command's options with types, units and defaults
transformer --version        show the version

An error is reported in one line; set the environment variable TRANSFORMER_TRACEBACK=1 for the traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: success; 2: an error that the user can fix; 75: a signal has stopped a training run, which can be
    resumed; 130: Ctrl-C; 141: the program that reads standard output has closed it.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    prog = " ".join(["transformer", *(name for name in arguments[:1] if name in COMMANDS)])
    is_resumable = prog == "transformer train" and "--dry-run" not in arguments
    with interrupting(SIGNALS if is_resumable else (signal.SIGINT,)) as request:
        try:
            atexit.register(end_at_once)
            prepare_streams()
            wait_briefly()
            keep_freed_memory()
            try:
                code = dispatch(arguments)
            finally:
                sys.stdout.flush()
            if request and not code:
                raise KeyboardInterrupt  # a library has swallowed the exception that the signal raised
            return code
        except BaseException as error:
            request.is_over = True
            return report(error, request.name, prog)


def report(error: BaseException, signal_name: str | None, prog: str) -> int:
    """Report in one line why a command failed, and return its exit code. Raise `error` if it is our own bug.

    After a signal, any error is reported as an interruption, because a signal that interrupts an import can
    make the import fail with another error.
    """
    if isinstance(error, TrainingStopped):
        return report_stopped(str(error), prog)
    if signal_name is not None and signal_name != "SIGINT":
        return report_stopped(f"stopped by {signal_name}", prog)
    if signal_name is not None or isinstance(error, KeyboardInterrupt):
        tell(f"{prog}: interrupted")
        return 130
    if isinstance(error, BrokenPipeError):  # the reader of our output has closed it, as `head` does
        discard_standard_output()
        return 141  # 128 + SIGPIPE, as the shell reports it
    line = in_one_line(error)
    if line is not None and os.environ.get("TRANSFORMER_TRACEBACK") != "1":
        tell(f"{prog}: error: {line}")
        if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
            discard_standard_output()
        return 2
    raise error


def report_stopped(reason: str, prog: str) -> int:
    tell(f"\n{prog}: {reason}; everything is saved, continue with --resume")
    atexit.register(ignore, SIGNALS)  # a second signal must not change the exit code
    return EXIT_CODE


def end_at_once() -> None:
    """Let Ctrl-C end the process without a traceback while Python shuts down."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def ignore(numbers: Sequence[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def dispatch(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print(OVERVIEW.format(commands="\n".join(f"  {name:{width}}  {COMMANDS[name]}" for name in COMMANDS)))
        return 0
    if name == "--version":
        print(f"transformer {version()}")
        return 0
    if name not in COMMANDS:
        raise UsageError(
            f"unknown command {name}{did_you_mean(name, COMMANDS) or '; see transformer --help'}"
        )
    module = importlib.import_module(f"transformer.cli.{name.replace('-', '_')}")
    return module.run(rest, f"transformer {name}") or 0


LONGEST_MESSAGE = 1000
"""Maximum characters of an error message, because the names and values in it may be of any length."""
LONGEST_NAME = 300
SHOWS_WHERE = "TRANSFORMER_TRACEBACK=1 shows where"


def in_one_line(error: BaseException) -> str | None:
    """Return the line that explains an error to the user, or None for an error that must be our own bug."""
    message = " ".join(str(error).split()) or type(error).__name__
    if is_out_of_memory(error):
        amount = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", message)
        line = f"out of memory{f', while allocating {amount[1]}' if amount else ''}; {SHOWS_WHERE}"
    elif isinstance(error, OSError) and error.filename is not None:
        line = f"{shortened(str(error.filename), LONGEST_NAME)}: {error.strerror}"
    elif isinstance(error, ValueError | OSError):
        line = message
    elif isinstance(error, OverflowError):
        line = f"a number is too large ({message}); {SHOWS_WHERE}"
    elif isinstance(error, RecursionError):
        line = f"something is nested too deeply ({message}); {SHOWS_WHERE}"
    else:
        return None
    return shortened(line, LONGEST_MESSAGE)
