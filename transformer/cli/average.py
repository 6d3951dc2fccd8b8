"""`transformer average`: the mean of the last checkpoints, as a checkpoint."""

from transformer.config.parser import command_parser

DESCRIPTION = """Average the weights of a run's newest checkpoints (section 6.1 of the paper) into a new one
and print its folder, which every --run option accepts."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder")
    parser.add_argument("--last", type=int, default=5, help="how many of the newest checkpoints")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="training time between them at least; the paper: 10"
    )
    options = parser.parse_args(arguments)

    from transformer.checkpoint.averaging import average_checkpoints
    from transformer.checkpoint.run import find_run

    print(average_checkpoints(find_run(options.run)[0], options.last, minutes=options.minutes))
