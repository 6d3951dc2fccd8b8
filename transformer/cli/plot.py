"""`transformer plot`: pictures of a sentence, of runs and of the paper's formulas, as PNG, SVG or PDF."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from transformer.cli.sentence import add_sentence_options, inspected
from transformer.config.checks import require
from transformer.config.parser import CommandParser, command_parser
from transformer.messages import tell
from transformer.pictures import new_figure, require_picture, write_picture

CURVES = """Plot loss, learning rate and validation score of one or more runs against the number of updates.
`transformer plot RUN` is short for `transformer plot curves RUN`. Other pictures, each with its own --help:
transformer plot attention, search, schedule, positions, table3."""
ATTENTION = """Draw the weights of one attention head for a sentence as a matrix of words, as in the paper's
Figures 3 to 5. The default is the head that transformer inspect shows first."""
SEARCH = """Draw the beam search for a sentence. Each step is a column; each hypothesis has its own row."""
SCHEDULE = """Plot the learning rate of one or more recipes (equation 3) against the number of updates."""
POSITIONS = """Draw the sinusoidal positional encoding (section 3.5), with a row for each position."""
TABLE3 = """Plot the BLEU scores in the paper's Table 3 against the numbers of parameters of our models."""


def run(arguments: list[str], prog: str) -> None:
    name = next((name for name in arguments[:1] if name in PICTURES), None)
    draw = PICTURES[name or "curves"]
    draw(arguments[1:] if name else arguments, f"{prog} {name}" if name else prog)


def picture_parser(prog: str, description: str, name: str) -> CommandParser:
    parser = command_parser(prog, description)
    parser.add_argument(
        "-o",
        "--output",
        default=f"{name}.png",
        metavar="FILE",
        help="image file to write: .png, .svg or .pdf",
    )
    return parser


def output_path(options: Namespace) -> Path:
    """Return the file to write. Raises `ValueError` unless its name ends in .png, .svg or .pdf."""
    path = Path(options.output)
    require_picture(path)
    return path


def write(figure: Any, path: Path) -> None:
    write_picture(figure, path)
    tell(f"wrote {path}")


def curves(arguments: list[str], prog: str) -> None:
    parser = picture_parser(prog, CURVES, "curves")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder; the same as --run")
    parser.add_argument("--run", nargs="+", metavar="RUN", help="a run's folder, or several")
    options = parser.parse_args(arguments)
    runs = [*options.runs, *(options.run or [])]
    require(bool(runs), "name a run to plot, as in --run runs/toyland")

    from transformer.checkpoint.run import Run
    from transformer.evaluation.curves import draw_curves, read_curves, score_of

    path = output_path(options)
    found = {name: read_curves(Run(Path(name))) for name in runs}
    panels = 2 if score_of(found.values()) is None else 3
    figure = new_figure(4.6 * panels, 3.6)
    draw_curves(found, figure.subplots(1, panels).tolist())
    write(figure, path)


def attention(arguments: list[str], prog: str) -> None:
    parser = picture_parser(prog, ATTENTION, "attention")
    add_sentence_options(parser)
    parser.add_argument(
        "--head",
        metavar="KIND.LAYER.HEAD",
        help="the head to draw, such as cross.3.3; KIND is cross, encoder or decoder",
    )
    options = parser.parse_args(arguments)
    path = output_path(options)
    figure = new_figure(1, 1)  # before the model is loaded, because matplotlib may be missing

    from transformer.inspection.figures import attention_size, draw_attention, head_named

    found = inspected(options)
    head = head_named(found, options.head)
    figure.set_size_inches(*attention_size(found, head.kind))
    draw_attention(found, figure.subplots(), kind=head.kind, layer=head.layer, head=head.head)
    write(figure, path)


def search(arguments: list[str], prog: str) -> None:
    parser = picture_parser(prog, SEARCH, "search")
    add_sentence_options(parser)
    options = parser.parse_args(arguments)
    path = output_path(options)
    figure = new_figure(1, 1)

    from transformer.inspection.figures import draw_search, search_size

    record = inspected(options).search
    if record is None:
        raise ValueError(f"{options.run}: a model of this task does not search, so there is nothing to draw")
    figure.set_size_inches(*search_size(record))
    draw_search(record, figure.subplots())
    write(figure, path)


def schedule(arguments: list[str], prog: str) -> None:
    parser = picture_parser(prog, SCHEDULE, "schedule")
    parser.add_argument(
        "--config",
        nargs="+",
        default=["wmt14_en_de_base", "wmt14_en_de_big"],
        metavar="FILE",
        help="recipes (names or files), or a run's config.yaml",
    )
    options = parser.parse_args(arguments)
    path = output_path(options)
    figure = new_figure(6, 3.6)

    from transformer.config.files import load_settings
    from transformer.config.recipes import find_recipe
    from transformer.evaluation.figures import draw_schedule

    draw_schedule({name: load_settings(find_recipe(name)) for name in options.config}, figure.subplots())
    write(figure, path)


def positions(arguments: list[str], prog: str) -> None:
    parser = picture_parser(prog, POSITIONS, "positions")
    parser.add_argument("--length", type=int, default=100, help="number of positions")
    parser.add_argument("--d-model", type=int, default=512, help="width of the vectors")
    options = parser.parse_args(arguments)
    require(options.length > 0, f"--length is {options.length}; it must be at least 1")
    require(options.d_model > 0, f"--d-model is {options.d_model}; it must be at least 2")
    path = output_path(options)
    figure = new_figure(6, 3.6)

    from transformer.evaluation.figures import draw_positions
    from transformer.model.positions import SinusoidalEncoding

    draw_positions(SinusoidalEncoding(options.d_model), options.length, figure.subplots())
    write(figure, path)


def table3(arguments: list[str], prog: str) -> None:
    options = picture_parser(prog, TABLE3, "table3").parse_args(arguments)
    path = output_path(options)
    figure = new_figure(6, 4.2)

    from transformer.evaluation.figures import draw_table3

    draw_table3(figure.subplots())
    write(figure, path)


PICTURES: dict[str, Callable[[list[str], str], None]] = {
    "attention": attention,
    "search": search,
    "curves": curves,
    "schedule": schedule,
    "positions": positions,
    "table3": table3,
}
