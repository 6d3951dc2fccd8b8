"""`transformer convert`: models of other programs into runs of ours, and our runs into models of theirs."""

from jsonargparse import Namespace

from transformer.config.errors import UsageError
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Convert a model from or to another program; what that program cannot express is refused by
name, and the two are compared.

`convert --from marian DIR RUN` turns a Marian model of Hugging Face, such as any OPUS-MT model, into a run
with the same logits, for `translate`, `evaluate` and the rest.
`convert --run RUN --to marian --output DIR` goes the other way.
`convert --run RUN --to ctranslate2 --output DIR` writes a model that CTranslate2 serves;
`translate --engine ctranslate2` does so by itself."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    if vars(options)["from"]:
        from transformer.convert.marian import from_marian

        output = from_marian(options.source, options.target, say=tell)
    elif options.to == "marian":
        from transformer.convert.marian_export import to_marian

        output = to_marian(options.run, options.output, say=tell)
    else:
        from transformer.convert.ctranslate2 import to_ctranslate2

        quantization = options.quantization or "float32"
        output = to_ctranslate2(options.run, options.output, quantization=quantization, say=tell)
    tell(f"converted model: {output}")


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--from", choices=("marian",), help="the format of DIR, which becomes the run RUN")
    parser.add_argument(
        "source", metavar="DIR", nargs="?", help="a model's folder, or a Hub id such as OWNER/NAME"
    )
    parser.add_argument(
        "target", metavar="RUN", nargs="?", help="the run's folder to write; it must not exist"
    )
    parser.add_argument("--to", choices=("marian", "ctranslate2"), help="the format to convert a run into")
    parser.add_argument(
        "--run", metavar="RUN", help="a run's folder or Hub id, or a checkpoint in it, to convert"
    )
    parser.add_argument("--output", metavar="DIR", help="the folder to write; it must not exist")
    parser.add_argument(
        "--quantization",
        choices=("float32", "bfloat16", "int8"),
        help="how CTranslate2 stores the weights; else float32",
    )
    options = parser.parse_args(arguments)
    require_one_direction(options)
    return options


def require_one_direction(options: Namespace) -> None:
    reading = {"DIR": options.source, "RUN": options.target}
    writing = {"--run": options.run, "--output": options.output}
    if (vars(options)["from"] is None) == (options.to is None):
        raise UsageError(
            "say either --from marian DIR RUN, or --run RUN --to marian|ctranslate2 --output DIR"
        )
    needed, others = (writing, reading) if options.to else (reading, writing)
    direction = "--to" if options.to else "--from"
    for name, value in needed.items():
        if value is None:
            raise UsageError(f"{direction} needs {name}, which is missing")
    for name, value in others.items():
        if value is not None:
            raise UsageError(f"{direction} takes no {name} ({value})")
    if options.quantization is not None and options.to != "ctranslate2":
        raise UsageError("--quantization is for --to ctranslate2")
