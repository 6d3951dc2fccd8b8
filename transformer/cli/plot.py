"""`transformer plot`: the training curves of one or more runs."""

from pathlib import Path

from transformer.config.checks import require
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Plot loss, learning rate and validation score of one or more runs against the updates."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder; the same as --run")
    parser.add_argument("--run", nargs="+", metavar="RUN", help="a run's folder, or several")
    parser.add_argument(
        "--output", default="curves.png", metavar="FILE", help="image file to write: .png, .svg or .pdf"
    )
    options = parser.parse_args(arguments)
    runs = [*options.runs, *(options.run or [])]
    require(bool(runs), "name a run to plot, as in --run runs/toyland")

    from transformer.checkpoint.run import Run
    from transformer.evaluation.curves import draw

    draw([Run(Path(name)) for name in runs], Path(options.output))
    tell(f"wrote {options.output}")
