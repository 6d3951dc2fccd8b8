"""`transformer convert`: models of other programs into runs of ours."""

import sys

from transformer.settings.parser import command_parser

DESCRIPTION = """Convert a Marian model of Hugging Face, such as any OPUS-MT model, into a run for
`translate`, `evaluate` and the rest. Its logits stay the same; where transformers is installed, this is
checked."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--from", choices=("marian",), required=True, help="the format of DIR")
    parser.add_argument("folder", metavar="DIR", help="a model's folder, or a Hub id such as OWNER/NAME")
    parser.add_argument("output", metavar="RUN", help="the run's folder to write; it must not exist")
    options = parser.parse_args(arguments)

    from transformer.convert.marian import from_marian

    folder = from_marian(options.folder, options.output, say=lambda line: print(line, file=sys.stderr))
    print(f"converted model: {folder}", file=sys.stderr)
