"""`transformer explain`: the paper's equations, one by one, with their values for a sentence."""

from transformer.cli.sentence import add_sentence_options, inspected
from transformer.config.parser import command_parser

DESCRIPTION = """Translate one sentence and print the paper's equations in the order of the computation. Each
equation comes with its section, the code that computes it, the shapes, and the values for one predicted word.
`transformer inspect` shows the same on a page; its help says what SENTENCE is for models of other tasks."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_sentence_options(parser)
    parser.add_argument(
        "--word",
        type=int,
        metavar="N",
        help="the number of the predicted word, from 1; punctuation marks are words too (default: a pronoun "
        "if toyland's grammar finds one, else the word where attention jumps furthest)",
    )
    options = parser.parse_args(arguments)
    if options.word is not None and options.word < 1:
        raise ValueError(f"--word is {options.word}; words are counted from 1")

    from transformer.inspection.text import explain

    print(explain(inspected(options), None if options.word is None else options.word - 1))
