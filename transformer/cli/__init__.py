"""The door: `transformer COMMAND …`. A command's module is imported only when the command is called."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from transformer.allocator import keep_freed_memory
from transformer.settings.errors import UsageError, did_you_mean

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
    """Run one command and return the exit code: 0, 2 for what the user can mend, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    keep_freed_memory()
    prog = " ".join(["transformer", *(name for name in arguments[:1] if name in COMMANDS)])
    try:
        try:
            return dispatch(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141  # 128 + SIGPIPE, as the shell reports it
    except (ValueError, OSError) as error:
        if os.environ.get("TRANSFORMER_TRACEBACK") == "1":
            raise
        print(f"{prog}: error: {in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130


def open_closed_streams() -> None:
    """Standard input and output that were closed (`<&-`, `>&-`) hold nothing, and what is written is lost."""
    for name, mode in (("stdin", "r"), ("stdout", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  (to the end)


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
    try:
        return metadata.version("transformer")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "(not installed)"


def in_one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
