"""`transformer card`: a model card for a run."""

from pathlib import Path

from transformer.config.checks import require
from transformer.config.parser import command_parser
from transformer.files import write_whole
from transformer.messages import tell

DESCRIPTION = """Write a model card for the Hugging Face Hub as README.md in the run's folder. It lists the
language pair, sizes, data, settings and scores that the run has recorded; the licence and the intended use
are for you to fill in. docs/convert.md shows how to upload the folder."""


def run(arguments: list[str], prog: str) -> None:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("named", nargs="?", metavar="RUN", help="a run's folder, or a checkpoint in it")
    parser.add_argument("--run", metavar="RUN", help="another way to give RUN")
    parser.add_argument(
        "--scores", metavar="FILE", help="output of `transformer evaluate --json`, to add test scores"
    )
    parser.add_argument("--output", metavar="FILE", help="file to write (default: README.md in the run)")
    options = parser.parse_args(arguments)
    names = [each for each in (options.named, options.run) if each is not None]
    require(bool(names), "name a run, as in transformer card runs/toyland")
    require(
        len(set(names)) == 1,
        f"a card is about one run, not about both {options.named} and {options.run}; name one of them",
    )
    name = names[0]

    from transformer.checkpoint.opening import find_pretrained
    from transformer.evaluation.card import model_card, read_scores

    scores = None if options.scores is None else read_scores(Path(options.scores))
    text = model_card(name, scores)
    path = Path(options.output) if options.output else find_pretrained(name)[0].path / "README.md"
    if path.exists():
        raise ValueError(f"{path} exists, perhaps with your own text; delete it, or name another --output")
    write_whole(path, text)
    tell(f"wrote {path}; fill in the licence and the other marked places")
