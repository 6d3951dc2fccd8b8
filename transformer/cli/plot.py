"""`transformer plot`: the training curves of one or more runs."""

from pathlib import Path

from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Plot loss, learning rate and validation score of one or more runs over the updates."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--output", default="curves.png", metavar="FILE", help="image file to write: .png, .svg or .pdf"
    )
    options = parser.parse_args(arguments)

    from transformer.checkpoint.run import Run
    from transformer.evaluation.curves import draw

    draw([Run(Path(name)) for name in options.runs], Path(options.output))
    tell(f"wrote {options.output}")
