"""`transformer translate`: standard input to standard output, or a file to a file, line by line."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jsonargparse import Namespace

from transformer.data.text import CorpusError, decode_lines, open_bytes, read_lines
from transformer.settings.parser import CommandParser, command_parser

if TYPE_CHECKING:
    from transformer.decoding.search import Processor
    from transformer.decoding.translator import Translation, Translator

Item = TypeVar("Item")

DESCRIPTION = """Translate standard input to standard output: exactly one line for each line, in order. On a
terminal, type a sentence and read its translation; Ctrl-D ends. With --input and --output under torchrun,
processes share the lines."""


class Request(NamedTuple):
    """One line of the input."""

    source: str
    prefix: str
    fields: dict[str, Any]
    """Everything in a JSON line; it is written back."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    from transformer.cli.shards import process, write_shared

    rank, count, device = process(options.device)
    if count > 1 and not options.input:
        raise ValueError("several processes cannot share standard input; pass --input and --output")
    from transformer.decoding.translator import Translator

    translator = Translator.from_pretrained(options.run, device=device, precision=options.precision)
    if options.input:
        with open_bytes(Path(options.input)) as stream:
            requests = read_requests(decode_lines(stream, options.input, options.on_error), options)
            chunks = in_chunks(requests, options.buffer)
            lines = options.buffer * (1 if options.json else options.n_best)
            write_shared(
                Path(options.output),
                chunks,
                lambda number, chunk: translate(translator, chunk, number * options.buffer + 1, options),
                lines,
                rank,
                count,
            )
        return
    is_prompting = sys.stdin.isatty()
    typed = decode_lines(sys.stdin.buffer, "standard input", options.on_error)
    requests = read_requests(prompted(typed) if is_prompting else typed, options)
    number = 1
    for chunk in in_chunks(requests, 1 if is_prompting else options.buffer):
        sys.stdout.buffer.write(translate(translator, chunk, number, options))
        sys.stdout.buffer.flush()
        number += len(chunk)


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument(
        "--run",
        required=True,
        nargs="+",
        metavar="RUN",
        help="a run's folder, or a checkpoint in it; several translate by the mean of their probabilities",
    )
    parser.add_argument("--input", metavar="FILE", help="read this file, .gz and .xz too; needs --output")
    parser.add_argument("--output", metavar="FILE", help="write this file, whole or not at all")
    parser.add_argument(
        "--json",
        action="store_true",
        help='JSON objects, one a line: "source", perhaps "prefix"; "translation" and "score" join the rest',
    )
    add_search_options(parser)
    parser.add_argument(
        "--n-best", type=int, default=1, help="translations of each line; above 1 as NUMBER<TAB>TEXT lines"
    )
    parser.add_argument(
        "--scores", action="store_true", help="log-probability / length penalty and a tab before each text"
    )
    parser.add_argument(
        "--alignment", action="store_true", help="a tab and aligned words after each text, as 0-0 1-2"
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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="of the matrix products; auto: bfloat16 where the hardware is fast at it",
    )
    options = parser.parse_args(arguments)
    for name in ("beam_size", "n_best", "buffer", "min_length", "no_repeat"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
    if bool(options.input) != bool(options.output):
        raise ValueError("--input and --output go together")
    if options.json and options.prefixes:
        raise ValueError('--prefixes is for lines of text; with --json each line has its own "prefix"')
    if not options.sample and (options.temperature != 1 or options.top_k or options.top_p):
        raise ValueError("--temperature, --top-k and --top-p need --sample")
    return options


def add_search_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses kept alive; 1 is greedy; else the run's own"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty; else the run's own")
    parser.add_argument("--min-length", type=int, help="fewest tokens of a translation, its end included")
    parser.add_argument("--no-repeat", type=int, metavar="N", help="no N tokens in a row stand twice")
    parser.add_argument(
        "--prefixes",
        metavar="FILE",
        help="what each line's translation starts with, a line each; may be blank",
    )
    parser.add_argument(
        "--sample", action="store_true", help="draw translations instead of searching the best"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1 is bolder, above 1 wilder")
    parser.add_argument("--top-k", type=int, help="draw from the K most probable tokens only")
    parser.add_argument("--top-p", type=float, help="draw from the fewest tokens that hold this probability")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws")


# Reading


def read_requests(lines: Iterable[str], options: Namespace) -> Iterator[Request]:
    if options.json:
        yield from (read_json(line, number) for number, line in enumerate(lines, start=1))
    elif options.prefixes:
        for number, (line, prefix) in enumerate(zip_longest(lines, read_lines(options.prefixes)), start=1):
            if line is None or prefix is None:
                shorter = "the input" if line is None else options.prefixes
                raise CorpusError(
                    f"{shorter} ends before line {number}; give a prefix, or a blank, for each line"
                )
            yield Request(line, prefix, {})
    else:
        yield from (Request(line, "", {}) for line in lines)


def read_json(line: str, number: int) -> Request:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"line {number} is not JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("source"), str):
        raise CorpusError(f'line {number} is not a JSON object with a text "source"')
    if not isinstance(fields.get("prefix", ""), str):
        raise CorpusError(f'line {number}: "prefix" is not a text')
    return Request(fields["source"], fields.get("prefix", ""), fields)


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


def in_chunks(lines: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The lines in lists of `size`; where reading fails, what was read before comes first."""
    chunk: list[Item] = []
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


# Translating and writing


def translate(
    translator: "Translator", chunk: Sequence[Request], first_line: int, options: Namespace
) -> bytes:
    """The lines of the output for these of the input."""
    found = translator.translate_n_best(
        [request.source for request in chunk],
        n_best=options.n_best,
        beam_size=options.beam_size,
        alpha=options.alpha,
        first_line=first_line,
        processors=processors(translator, options),
        prefixes=[request.prefix for request in chunk] if any(request.prefix for request in chunk) else None,
        sampler=sampler(translator, first_line, options) if options.sample else None,
    )
    rows: list[list[tuple[Translation, str | None]]] = [[(output, None) for output in row] for row in found]
    if options.alignment:
        rows = aligned(translator, chunk, found)
    write = json_lines if options.json else text_lines
    written = (
        line
        for number, (request, outputs) in enumerate(zip(chunk, rows, strict=True), start=first_line)
        for line in write(request, number, outputs, options)
    )
    return "".join(f"{line}\n" for line in written).encode()


def processors(translator: "Translator", options: Namespace) -> "list[Processor]":
    from transformer.decoding.processors import MinLength, NoRepeat

    chosen: list[Processor] = []
    if options.min_length:
        chosen.append(MinLength(options.min_length, translator.config.eos_id))
    if options.no_repeat:
        chosen.append(NoRepeat(options.no_repeat))
    return chosen


def sampler(translator: "Translator", first_line: int, options: Namespace) -> Any:
    """Seeded anew for each chunk, so that one process draws what several do."""
    import torch

    from transformer.decoding.sampling import Sampler

    generator = torch.Generator(next(translator.model.parameters()).device)
    generator.manual_seed((options.seed + first_line * 2_654_435_761) % 2**32)  # a prime: seeds keep apart
    return Sampler(options.temperature, options.top_k, options.top_p, generator)


def aligned(
    translator: "Translator", chunk: Sequence[Request], found: "list[list[Translation]]"
) -> "list[list[tuple[Translation, str | None]]]":
    from transformer.decoding.alignment import pharaoh

    sources = [request.source for request, row in zip(chunk, found, strict=True) for _ in row]
    alignments = iter(translator.align(sources, [output for row in found for output in row]))
    return [[(output, pharaoh(next(alignments))) for output in row] for row in found]


def text_lines(
    request: Request,  # noqa: ARG001
    number: int,
    outputs: "list[tuple[Translation, str | None]]",
    options: Namespace,
) -> Iterator[str]:
    for output, alignment in outputs:
        columns = [str(number)] if options.n_best > 1 else []
        columns += [f"{output.score:.4f}"] if options.scores else []
        yield "\t".join([*columns, output.text, *([] if alignment is None else [alignment])])


def json_lines(
    request: Request,
    number: int,  # noqa: ARG001
    outputs: "list[tuple[Translation, str | None]]",
    options: Namespace,
) -> Iterator[str]:
    """The best translation among the fields of the input; with --n-best above 1, all in a list as well."""
    n_best = [
        {"translation": output.text, "score": output.score}
        | ({} if alignment is None else {"alignment": alignment})
        for output, alignment in outputs
    ]
    listed = {"n_best": n_best} if options.n_best > 1 else {}
    yield json.dumps(request.fields | n_best[0] | listed, ensure_ascii=False)
