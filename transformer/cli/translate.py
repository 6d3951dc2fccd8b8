"""`transformer translate`: standard input to standard output, line by line."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from transformer.data.text import CorpusError, decode_lines
from transformer.settings.parser import command_parser

if TYPE_CHECKING:
    from transformer.convert.engine import CTranslate2Translator
    from transformer.decoding.translator import Translation, Translator

DESCRIPTION = """Translate standard input to standard output: exactly one line for each line, in order. On a
terminal, type a sentence and read its translation; Ctrl-D ends."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    translator = load(options)
    is_prompting = sys.stdin.isatty()
    lines = decode_lines(sys.stdin.buffer, "standard input", options.on_error)
    number = 1
    for chunk in in_chunks(prompted(lines) if is_prompting else lines, 1 if is_prompting else options.buffer):
        results = translator.translate_n_best(
            chunk,
            n_best=options.n_best,
            beam_size=options.beam_size,
            alpha=options.alpha,
            first_line=number,
        )
        for line_number, outputs in enumerate(results, start=number):
            write(line_number, outputs, options)
        sys.stdout.buffer.flush()
        number += len(chunk)


def load(options: Namespace) -> "Translator | CTranslate2Translator":
    if options.engine == "torch":
        from transformer.decoding.translator import Translator

        return Translator.from_pretrained(options.run, device=options.device)
    from transformer.convert.engine import CTranslate2Translator

    quantization = options.engine.partition("-")[2] or "float32"
    return CTranslate2Translator.from_pretrained(
        options.run, device=options.device, quantization=quantization
    )


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder, or a checkpoint in it")
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses kept alive; 1 is greedy; else the run's own"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty; else the run's own")
    parser.add_argument(
        "--n-best", type=int, default=1, help="translations of each line; above 1 as NUMBER<TAB>TEXT lines"
    )
    parser.add_argument(
        "--scores", action="store_true", help="log-probability / length penalty and a tab before each text"
    )
    parser.add_argument(
        "--on-error",
        choices=("error", "skip", "replace"),
        default="error",
        help="for a line that is not UTF-8: stop, translate it as an empty line, or replace the bad bytes",
    )
    parser.add_argument(
        "--buffer", type=int, default=1000, help="lines read before they are translated together"
    )
    parser.add_argument(
        "--engine",
        choices=("torch", "ctranslate2", "ctranslate2-int8"),
        default="torch",
        help="what computes; for ctranslate2 the model is converted once and kept with its checkpoint",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args(arguments)
    for name in ("beam_size", "n_best", "buffer"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    return options


def prompted(lines: Iterable[str]) -> Iterator[str]:
    """Ask for each line on standard error, so that standard output holds translations alone."""
    remaining = iter(lines)
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = next(remaining, None)
        if line is None:
            print(file=sys.stderr)
            return
        yield line


def in_chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    """The lines in lists of `size`; where reading fails, what was read before comes first."""
    chunk: list[str] = []
    failure = None
    try:
        for line in lines:
            chunk.append(line)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except CorpusError as error:
        failure = error
    if chunk:
        yield chunk
    if failure is not None:
        raise failure


def write(line_number: int, outputs: "list[Translation]", options: Namespace) -> None:
    for output in outputs:
        columns = [str(line_number)] if options.n_best > 1 else []
        columns += [f"{output.score:.4f}"] if options.scores else []
        sys.stdout.buffer.write(("\t".join([*columns, output.text]) + "\n").encode())
