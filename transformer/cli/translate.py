"""`transformer translate`: translate standard input or a file line by line."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jsonargparse import Namespace

from transformer.cli.custom_code import add_build_option, custom_build
from transformer.cli.options import add_device_option, add_on_error_option, add_precision_option
from transformer.cli.outside_toyland import OutsideToyland, learned_toyland
from transformer.cli.requests import Request, read_requests
from transformer.cli.search_options import (
    add_search_options,
    processors,
    require_one_way_to_choose,
    sampler,
)
from transformer.cli.standard_input import StandardInput, in_chunks, input_file
from transformer.config.parser import CommandParser, command_parser
from transformer.data.json_text import json_line
from transformer.data.text import read_lines

if TYPE_CHECKING:
    from transformer.decoding.lines import LineTranslator
    from transformer.decoding.translation import Translation
    from transformer.decoding.translator import Translator
    from transformer.progress import Progress

DESCRIPTION = """Translate standard input to standard output, one output line per input line, in order. On a
terminal, type a sentence and read its translation; Ctrl-D ends the command. Lines from a pipe are translated
as soon as no further line is waiting. With --input and --output, the command can run under torchrun; the
processes then share the lines."""


def run(arguments: list[str], prog: str) -> int | None:
    options = parse(arguments, prog)
    from transformer.processes import rank_and_size

    if options.input:
        return translate_file(options)
    if rank_and_size()[1] > 1:
        raise ValueError("several processes cannot share standard input; pass --input and --output")
    work = translating(options)
    given = StandardInput(options, is_json=options.json)
    requests = read_requests(given.lines, options)
    if options.sample and not given.is_terminal:
        # Each chunk has its own seed, so chunks must not depend on when lines arrive: every chunk except the
        # last must be full.
        chunks = in_chunks(requests, options.buffer)
    else:
        chunks = given.together(requests, options.buffer)
    number = 1
    for chunk in chunks:
        sys.stdout.buffer.write(work(chunk, number))
        sys.stdout.buffer.flush()
        number += len(chunk)
    return None


def translate_file(options: Namespace) -> int | None:
    """Translate --input to --output, in one process or in several that share the work."""
    from transformer.cli.shards import require_one_task, require_plain, sharing_processes, write_shared
    from transformer.progress import Progress
    from transformer.training.coordination import ProcessLostError

    try:
        with sharing_processes() as group:
            group.from_first(lambda: require_plain(Path(options.output)))
            if group.size > 1:
                require_one_task(group, options)
            work = translating(options)
            requests = read_requests(input_file(options.input, options, is_json=options.json), options)
            with Progress(number_of_lines(options.input), "line", hidden=not group.is_first) as progress:
                write_shared(
                    Path(options.output),
                    watched(in_chunks(requests, options.buffer), progress),
                    lambda number, chunk: work(chunk, number * options.buffer + 1),
                    options.buffer * (1 if options.json else options.n_best),
                    group,
                )
    except ProcessLostError:  # already reported on standard error
        return 2
    return None


def number_of_lines(path: str) -> int | None:
    """Count the lines for the progress bar; return None for a pipe, which can be read only once."""
    if not Path(path).is_file():
        return None
    return sum(1 for _ in read_lines(path, "replace", too_long=lambda _: None))


def watched(chunks: Iterable[list[Request]], progress: "Progress") -> Iterator[list[Request]]:
    """Yield the chunks unchanged; the progress bar counts a chunk as done when the next is requested."""
    for chunk in chunks:
        yield chunk
        progress.update(len(chunk))


def translating(options: Namespace) -> Callable[[Sequence[Request], int], bytes]:
    """Load the models and return a function that translates a chunk.

    The function takes a chunk and the number of its first line, and returns the output lines.
    """
    translator = load(options)
    outside = OutsideToyland() if learned_toyland(options.run) else None

    def work(chunk: Sequence[Request], first_line: int) -> bytes:
        written = translate(translator, chunk, first_line, options)
        if outside is not None:
            outside.check([request.source for request in chunk], first_line)
        return written

    return work


def load(options: Namespace) -> "LineTranslator":
    if options.engine == "torch":
        from transformer.decoding.translator import Translator

        build = custom_build(options.build)
        return Translator.from_pretrained(
            options.run, build=build, device=options.device, precision=options.precision
        )
    from transformer.convert.engine import CTranslate2Translator

    quantization = options.engine.partition("-")[2] or "float32"
    return CTranslate2Translator.from_pretrained(
        options.run[0], device=options.device, quantization=quantization
    )


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument(
        "--run",
        required=True,
        nargs="+",
        metavar="RUN",
        help="a run's folder, or a checkpoint in it; several form an ensemble (mean of the probabilities)",
    )
    add_build_option(parser)
    parser.add_argument("--input", metavar="FILE", help="file to read, also .gz and .xz; needs --output")
    parser.add_argument("--output", metavar="FILE", help="file to write; it appears only when complete")
    parser.add_argument(
        "--json",
        action="store_true",
        help='each input line is a JSON object with "source" and optionally "prefix"; the output adds '
        '"translation" and "score"',
    )
    add_search_options(parser)
    parser.add_argument(
        "--n-best",
        type=int,
        default=1,
        help="translations per line; above 1, each follows the number of its input line and a tab",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="before each translation, write its score (log-probability / length penalty) and a tab",
    )
    parser.add_argument(
        "--alignment",
        action="store_true",
        help="after each translation, write a tab and the word alignment, such as 0-0 1-2",
    )
    add_on_error_option(parser)
    parser.add_argument(
        "--buffer", type=int, default=1000, help="maximum number of lines to translate together"
    )
    add_engine_options(parser)
    options = parser.parse_args(arguments)
    for name in ("beam_size", "n_best", "buffer", "min_length", "no_repeat"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    if bool(options.input) != bool(options.output):
        raise ValueError("--input and --output go together")
    if options.json and options.prefixes:
        raise ValueError('--prefixes is for lines of text; with --json each line has its own "prefix"')
    if options.json and options.on_error == "skip":
        raise ValueError("--on-error skip makes an empty line, which is not JSON; choose error or replace")
    require_one_way_to_choose(options)
    if options.engine != "torch":
        refuse_what_only_torch_does(options)
    return options


def add_engine_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("torch", "ctranslate2", "ctranslate2-int8"),
        default="torch",
        help="inference engine; ctranslate2 converts the model at first use and keeps the result in the "
        "checkpoint's folder",
    )
    add_device_option(parser)
    add_precision_option(parser)


def refuse_what_only_torch_does(options: Namespace) -> None:
    names = ("build", "min_length", "no_repeat", "prefixes", "sample", "alignment")
    asked = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    asked += ["--run with several runs"] if len(options.run) > 1 else []
    asked += ["--precision"] if options.precision != "float32" else []
    if asked:
        raise ValueError(f"{asked[0]} needs --engine torch, not {options.engine}")


def translate(
    translator: "LineTranslator", chunk: Sequence[Request], first_line: int, options: Namespace
) -> bytes:
    """Translate a chunk of the input, and return the output lines in UTF-8."""
    prefixes = [request.prefix for request in chunk] if any(request.prefix for request in chunk) else None
    if prefixes is not None and options.engine != "torch":
        raise ValueError(f'a "prefix" needs --engine torch, not {options.engine}')
    found = translator.translate_n_best(
        [request.source for request in chunk],
        n_best=options.n_best,
        beam_size=options.beam_size,
        alpha=options.alpha,
        first_line=first_line,
        processors=processors(translator, options),
        prefixes=prefixes,
        sampler=sampler(cast("Translator", translator), first_line, options) if options.sample else None,
    )
    rows: Sequence[Sequence[tuple[Translation, str | None]]] = [
        [(output, None) for output in row] for row in found
    ]
    if options.alignment:
        rows = cast("Translator", translator).with_alignments([request.source for request in chunk], found)
    write = json_lines if options.json else text_lines
    written = (
        line
        for number, (request, outputs) in enumerate(zip(chunk, rows, strict=True), start=first_line)
        for line in write(request, number, outputs, options)
    )
    return "".join(f"{line}\n" for line in written).encode()


def text_lines(
    request: Request,  # noqa: ARG001
    number: int,
    outputs: "Sequence[tuple[Translation, str | None]]",
    options: Namespace,
) -> Iterator[str]:
    for output, alignment in outputs:
        columns = [str(number)] if options.n_best > 1 else []
        columns += [f"{output.score:.4f}"] if options.scores else []
        yield "\t".join([*columns, output.text, *([] if alignment is None else [alignment])])


def json_lines(
    request: Request,
    number: int,  # noqa: ARG001
    outputs: "Sequence[tuple[Translation, str | None]]",
    options: Namespace,
) -> Iterator[str]:
    """Add the best translation to the fields of the input.

    With --n-best above 1, a list of all translations is added too. If the search found no translation, the
    score is -inf, which is written as null because JSON has no infinity.
    """
    n_best = [
        {"translation": output.text, "score": output.score if isfinite(output.score) else None}
        | ({} if alignment is None else {"alignment": alignment})
        for output, alignment in outputs
    ]
    listed = {"n_best": n_best} if options.n_best > 1 else {}
    yield json_line(request.fields | n_best[0] | listed)
