"""`transformer average`: average the last checkpoints into a new one."""

from transformer.config.parser import command_parser

DESCRIPTION = """Average the weights of a run's last checkpoints (section 6.1 of the paper) into a new
checkpoint and print its folder, which every --run option accepts."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="RUN", help="a run's folder")
    parser.add_argument("--last", type=int, default=5, help="number of checkpoints to average")
    parser.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        help="minimum training time between two averaged checkpoints; the paper uses 10",
    )
    options = parser.parse_args(arguments)

    from transformer.checkpoint.averaging import average_checkpoints
    from transformer.checkpoint.run import find_run

    print(average_checkpoints(find_run(options.run)[0], options.last, minutes=options.minutes))
