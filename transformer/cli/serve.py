"""`transformer serve`: an HTTP server for trained translation models."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from transformer.cli.custom_code import add_build_option
from transformer.cli.outside_toyland import learned_toyland
from transformer.cli.translate import add_engine_options, load
from transformer.config.errors import install_extra
from transformer.config.parser import command_parser
from transformer.kernels.allocator import keep_few_shapes
from transformer.messages import tell

if TYPE_CHECKING:
    from transformer.serving.app import ServedModel

DESCRIPTION = """Serve translation models over HTTP. POST /translate translates a JSON list of lines, with
scores, n-best lists and word alignments. GET /health lists the models. / is a web page for typing text to
translate, and /docs documents the endpoints. Requests that are waiting at the same time are translated
together. Ctrl-C or SIGTERM ends the server after it has answered the requests that have already arrived.
Needs the extra `serve`."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    names = names_of(options.run)
    keep_few_shapes()
    try:
        from transformer.serving.limits import Limits
        from transformer.serving.server import address, listen, serve
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs the package {error.name}; {install_extra('serve')}") from None
    limits = Limits(
        lines=options.max_lines,
        characters=options.max_characters,
        beam_size=options.max_beam_size,
        body_bytes=options.max_bytes,
        seconds=options.timeout,
        waiting_lines=options.max_waiting,
    )
    with listen(options.host, options.port) as listening:
        models = [served(name, run, options) for name, run in names.items()]
        tell(f"serving {', '.join(names)} at {address(listening)} (Ctrl-C ends)")
        serve(models, limits, listening)


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument(
        "--run",
        required=True,
        nargs="+",
        metavar="RUN",
        help="a run's folder, or a checkpoint in it; a request may name the run to use (default: the first)",
    )
    add_build_option(parser)
    parser.add_argument("--port", type=int, default=8000, help="TCP port; 0: any free port")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 accepts clients on other machines",
    )
    parser.add_argument("--max-lines", type=int, default=100, help="maximum lines in a request or batch")
    parser.add_argument("--max-characters", type=int, default=2000, help="maximum characters in a line")
    parser.add_argument("--max-beam-size", type=int, default=16, help="largest beam a request may ask for")
    parser.add_argument("--max-bytes", type=int, default=1_000_000, help="maximum bytes in a request")
    parser.add_argument(
        "--max-waiting", type=int, default=1000, help="maximum lines waiting, added up over all requests"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until a request times out")
    add_engine_options(parser)
    options = parser.parse_args(arguments)
    for name in ("max_lines", "max_characters", "max_beam_size", "max_bytes", "max_waiting", "timeout"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be greater than 0"
            )
    if options.engine != "torch" and (options.build or options.precision != "float32"):
        raise ValueError("--build and --precision need --engine torch")
    if not 0 <= options.port < 2**16:
        raise ValueError(f"--port is {options.port}; it must be between 0 and 65535")
    return options


def names_of(runs: list[str]) -> dict[str, str]:
    """Map the names by which requests choose a run to the paths of the runs.

    A name is the last part of the path, or the whole path if several runs have the same last part.
    """
    last = [Path(run).resolve().name for run in runs]
    names = [run if last.count(name) > 1 else name for run, name in zip(runs, last, strict=True)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"--run names {min(twice)} twice")
    return dict(zip(names, runs, strict=True))


def served(name: str, run: str, options: Namespace) -> "ServedModel":
    from transformer import toyland
    from transformer.checkpoint.opening import find_pretrained
    from transformer.config.files import load_settings
    from transformer.serving.app import ServedModel
    from transformer.serving.schemas import ModelInfo

    found, checkpoint = find_pretrained(run)
    settings = load_settings(found.config)
    info = ModelInfo(
        name=name,
        source=settings.data.source,
        target=settings.data.target,
        checkpoint=checkpoint.name,
        beam_size=settings.decoding.beam_size,
        alpha=settings.decoding.alpha,
    )
    own = options.clone()
    own.run = [run]
    why_outside = toyland.obviously_outside if learned_toyland([run]) else None
    return ServedModel(load(own), info, why_outside)
