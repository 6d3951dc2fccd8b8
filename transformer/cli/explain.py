"""`transformer explain`: the paper's equations, one by one, with the numbers of a sentence."""

from transformer.cli.custom_code import custom_build
from transformer.cli.options import add_device_option, add_inspection_options, add_run_option, options_of_task
from transformer.config.parser import command_parser

DESCRIPTION = """Translate one sentence and print the paper's equations in the order of the computation: for
each, its section, the code that computes it, the shapes, and the numbers at one predicted word. transformer
inspect shows the same on a page; its help says what the sentence is for models of other tasks."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_run_option(parser)
    parser.add_argument("sentence", metavar="SENTENCE", help="the text to explain")
    parser.add_argument(
        "--word",
        type=int,
        metavar="N",
        help="the number of the predicted word, from 1; punctuation counts as words (default: a pronoun, or "
        "the word where attention jumps furthest)",
    )
    add_inspection_options(parser)
    add_device_option(parser)
    options = parser.parse_args(arguments)
    if options.word is not None and options.word < 1:
        raise ValueError(f"--word is {options.word}; words are counted from 1")

    from transformer.inspection.inspect import inspect
    from transformer.inspection.loading import open_model
    from transformer.inspection.text import explain

    opened = open_model(options.run, build=custom_build(options.build), device=options.device)
    gold = {"gold": opened.gold(options.sentence)} if opened.task == "translation" else {}
    found = inspect(opened.model, options.sentence, **options_of_task(options, opened.task), **gold)
    print(explain(found, None if options.word is None else options.word - 1))
