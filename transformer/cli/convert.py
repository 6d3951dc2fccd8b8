"""`transformer convert`: convert other programs' models to runs, and runs to their formats."""

from jsonargparse import Namespace

from transformer.config.errors import UsageError
from transformer.config.parser import command_parser
from transformer.messages import tell

DESCRIPTION = """Convert a model from or to another program's format, and compare the outputs of both models.
If the other format does not support a setting, an error names the setting.

`convert --from marian DIR RUN` converts a Marian model, such as any OPUS-MT model, to a run with the same
logits, for `translate`, `evaluate` and the other commands. DIR holds Hugging Face's files or Marian's own.
`convert --run RUN --to marian --output DIR` does the reverse.
`convert --run RUN --to ctranslate2 --output DIR` writes a model that CTranslate2 can serve;
`translate --engine ctranslate2` converts the model itself."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    if vars(options)["from"]:
        from transformer.convert.marian import from_marian

        output = from_marian(options.source, options.target, trained_with=options.trained_with, say=tell)
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
    parser.add_argument(
        "--from",
        choices=("marian",),
        help="format of the model in DIR; the model is converted to the run RUN",
    )
    parser.add_argument(
        "source",
        metavar="DIR",
        nargs="?",
        help="folder of the model, its .npz file, or a Hub id such as OWNER/NAME",
    )
    parser.add_argument(
        "target", metavar="RUN", nargs="?", help="run folder to create; it must not exist yet"
    )
    parser.add_argument(
        "--trained-with",
        choices=("marian", "transformers"),
        help="program whose outputs the run reproduces: marian and transformers differ in the wavelengths of "
        "the positional encoding and in LayerNorm's ε (default: marian if the files show that Marian trained "
        "the model, else transformers)",
    )
    parser.add_argument("--to", choices=("marian", "ctranslate2"), help="format to convert a run to")
    parser.add_argument(
        "--run", metavar="RUN", help="the run to convert: its folder, a checkpoint in it, or a Hub id"
    )
    parser.add_argument("--output", metavar="DIR", help="folder to create; it must not exist yet")
    parser.add_argument(
        "--quantization",
        choices=("float32", "bfloat16", "int8"),
        help="how CTranslate2 stores the weights (default: float32)",
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
    if options.trained_with is not None and vars(options)["from"] is None:
        raise UsageError("--trained-with is for --from marian")
    if options.quantization is not None and options.to != "ctranslate2":
        raise UsageError("--quantization is for --to ctranslate2")
