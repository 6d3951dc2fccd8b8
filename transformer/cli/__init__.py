"""The door: `transformer COMMAND …`. A command's module is imported only when the command is called."""

import atexit
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from transformer.cli.streams import STANDARD_OUTPUT, discard_standard_output, prepare_streams
from transformer.config.errors import UsageError, did_you_mean
from transformer.kernels.allocator import keep_freed_memory
from transformer.messages import tell
from transformer.training.interruption import EXIT_CODE, SIGNALS, TrainingStopped, interrupting

# `fill-mask` lives in `transformer/cli/fill_mask.py`, with `run(arguments, prog) -> int | None`, and so on.
COMMANDS = {
    "train": "train a model from settings, or continue a run",
    "translate": "translate standard input, line by line",
    "evaluate": "score a trained model on a test text",
    "score": "say how probable given translations are",
    "generate": "continue a text with a language model",
    "classify": "name the class of each line of standard input",
    "fill-mask": "say what may stand where a line has <mask>",
    "embed": "write a vector for each line of standard input",
    "nearest": "find the sentences that are nearest to each line",
    "average": "average the last checkpoints of a run",
    "plot": "draw the curves of runs as a picture",
    "convert": "turn a Marian model into a run, or a run into Marian's or CTranslate2's",
    "table3": "print the paper's table of variations beside the size of our models",
    "selftest": "compare this installation with independent implementations",
}

OVERVIEW = """\
usage: transformer COMMAND [options]

The PyTorch reference implementation of "Attention Is All You Need".

{commands}

transformer COMMAND --help   shows a command's options with types, units and defaults
transformer --version        shows the version

Errors take one line; the environment variable TRANSFORMER_TRACEBACK=1 shows where they come from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for what the user can mend, 130 when interrupted.

    75 if another signal has stopped a training.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    prog = " ".join(["transformer", *(name for name in arguments[:1] if name in COMMANDS)])
    with interrupting(SIGNALS if prog == "transformer train" else (signal.SIGINT,)) as request:
        try:
            atexit.register(end_at_once)
            prepare_streams()
            keep_freed_memory()
            try:
                code = dispatch(arguments)
            finally:
                sys.stdout.flush()
            if request and not code:
                raise KeyboardInterrupt  # again: a library has swallowed the first one
            return code
        except BaseException as error:
            request.is_over = True
            return report(error, request.name, prog)


def report(error: BaseException, signal_name: str | None, prog: str) -> int:
    """Say in one line why a command has ended, and return the exit code; an error of ours is raised.

    After a signal every error is its consequence: it may have cut an import in half.
    """
    if isinstance(error, TrainingStopped):
        return report_stopped(str(error), prog)
    if signal_name is not None and signal_name != "SIGINT":
        return report_stopped(f"stopped by {signal_name}", prog)
    if signal_name is not None or isinstance(error, KeyboardInterrupt):
        tell(f"{prog}: interrupted")
        return 130
    if isinstance(error, BrokenPipeError):  # the reader of our output, `head` say, has seen enough
        discard_standard_output()
        return 141  # 128 + SIGPIPE, as the shell reports it
    if isinstance(error, ValueError | OSError) and os.environ.get("TRANSFORMER_TRACEBACK") != "1":
        tell(f"{prog}: error: {in_one_line(error)}")
        if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
            discard_standard_output()
        return 2
    raise error


def report_stopped(reason: str, prog: str) -> int:
    tell(f"\n{prog}: {reason}; everything is saved, --resume goes on")
    atexit.register(ignore, SIGNALS)  # a second signal must not change the exit code
    return EXIT_CODE


def end_at_once() -> None:
    """While Python exits, Ctrl-C ends the process without a traceback."""
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


def version() -> str:
    from importlib import metadata  # takes as long to import as all of the above

    try:
        return metadata.version("transformer")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "(not installed)"


def in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
