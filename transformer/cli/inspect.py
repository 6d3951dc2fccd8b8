"""`transformer inspect`: one page that shows how the model processes a sentence."""

from dataclasses import replace
from pathlib import Path

from jsonargparse import Namespace

from transformer.cli.custom_code import custom_build
from transformer.cli.lines import write_row
from transformer.cli.options import add_device_option, add_inspection_options, add_run_option, options_of_task
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Translate one sentence and write a self-contained HTML page that shows the attention, the
search and the intermediate values. SENTENCE is a prompt for a language model, a sentence that contains <mask>
for a masked language model, and the text to classify for a classifier. With --sentences but without SENTENCE,
print a table of what each head does on average over the sentences of a file, and write no page."""

PAGE = "inspect.html"


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    add_run_option(parser)
    parser.add_argument("sentence", nargs="?", metavar="SENTENCE", help="the text to inspect")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"HTML file to write (default: {PAGE})")
    parser.add_argument(
        "--sentences", metavar="FILE", help="average what each head does over the lines of this file"
    )
    add_inspection_options(parser)
    add_device_option(parser)
    options = parser.parse_args(arguments)
    if options.sentence is None and options.sentences is None:
        raise ValueError("give a sentence to inspect, or --sentences FILE")
    if options.sentence is None and options.output is not None:
        raise ValueError("--output is for the page about a sentence; the table is printed")
    write_page(options)


def write_page(options: Namespace) -> None:
    from transformer.files import write_whole
    from transformer.inspection.inspect import inspect, mean_over_sentences
    from transformer.inspection.loading import open_model
    from transformer.inspection.page import page
    from transformer.inspection.text import COLUMNS, head_rows, summary

    opened = open_model(options.run, build=custom_build(options.build), device=options.device)
    given = options_of_task(options, opened.task)
    measured = None
    if options.sentences is not None:
        lines = read_sentences(options.sentences)
        measured = mean_over_sentences(opened.model, lines, gold=opened.gold, **given)
    if options.sentence is None:
        assert measured is not None
        for row in (COLUMNS, *head_rows(measured)):
            write_row(*row)
        return
    gold = {"gold": opened.gold(options.sentence)} if opened.task == "translation" else {}
    found = inspect(opened.model, options.sentence, **given, **gold)
    if measured is not None:
        found = replace(found, heads=measured, roles_from=f"{len(lines)} sentences of {options.sentences}")
    path = Path(options.output or PAGE)
    write_whole(path, page(found))
    print(summary(found))
    tell(f"wrote {path}; open it in a browser: {path.resolve().as_uri()}")


def read_sentences(name: str) -> list[str]:
    """Read the lines of a file that are not blank. Raises `ValueError` if all lines are blank."""
    from transformer.data.text import read_lines

    lines = [line for line in read_lines(name) if line.strip()]
    if not lines:
        raise ValueError(f"{name} has no sentences: every line is blank")
    return lines
