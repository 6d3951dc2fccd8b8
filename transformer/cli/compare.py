"""`transformer compare`: two systems on one test text."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from jsonargparse import Namespace

from transformer.cli.custom_code import add_build_option, add_task_option, custom_build, custom_task
from transformer.cli.options import add_device_option
from transformer.config import BleuTokenizer
from transformer.config.parser import command_parser
from transformer.messages import tell, warn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformer.config import Settings
    from transformer.evaluation.scored import Scored

DESCRIPTION = """Compare two translation systems on the same text. Prints BLEU and chrF with sacreBLEU's
paired bootstrap, BLEU grouped by sentence length, the F1 of words grouped by their frequency in the training
text, and, for each system, the sentences where it beats the other by the widest margin.
A system is a run, which is used to translate the text, or a file written by `evaluate --output`."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)

    from transformer.evaluation.bleu import choose_tokenizer
    from transformer.evaluation.comparison import require_same_text, word_counts, words_of
    from transformer.evaluation.comparison_text import comparison
    from transformer.evaluation.scored import read_scored

    runs = [name for name in options.systems if not Path(name).is_file()]
    for name, default in (("data", None), ("build", None), ("task", None), ("device", "auto")):
        if not runs and options[name] != default:
            raise ValueError(f"--{name} is for runs, but the two systems are files; leave it out")
    for name in runs:
        require_translation(name, options)  # check both runs before spending time on translating
    known = settings_of(runs[0]) if runs else None
    one, other = (
        translated(name, known, options) if name in runs and known else read_scored(Path(name))
        for name in options.systems
    )
    require_same_text(one, other)
    tokenizer = options.bleu_tokenizer or ("13a" if known is None else choose_tokenizer(known.data))
    cut = words_of(tokenizer)
    text = training_text(options.train, known)
    print(
        comparison(
            (options.systems[0], options.systems[1]),
            one,
            other,
            bleu_tokenizer=tokenizer,
            cut=cut,
            training_words=None if text is None else word_counts(text, cut),
            show=options.show,
        )
    )


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="a run, a checkpoint in it, or a file")
    parser.add_argument("--run", nargs="+", metavar="RUN", help="another way to name runs to compare")
    add_build_option(parser)
    add_task_option(parser)
    parser.add_argument("--data", help="test text for runs, named as in data.test (default: the first run's)")
    parser.add_argument(
        "--train",
        metavar="FILE",
        help="training text in the target language, for word frequencies (default: the first run's)",
    )
    parser.add_argument(
        "--bleu-tokenizer",
        metavar="NAME",
        choices=get_args(BleuTokenizer),
        help="sacreBLEU's tokenizer for BLEU (default: the first run's, or 13a for two files)",
    )
    parser.add_argument(
        "--show", type=int, default=3, help="for each system, print this many sentences where it is better"
    )
    add_device_option(parser)
    options = parser.parse_args(arguments)
    options.systems += options.run or []
    if len(options.systems) != 2:
        raise ValueError(f"compare takes two systems, not {len(options.systems)}; name two runs or files")
    if options.show < 0:
        raise ValueError(f"--show is {options.show}; it must be 0 or more")
    return options


def settings_of(name: str) -> "Settings":
    from transformer.checkpoint.opening import find_pretrained
    from transformer.config.files import load_settings

    return load_settings(find_pretrained(name)[0].config)


def require_translation(name: str, options: Namespace) -> None:
    """Raise `ValueError` unless `name` is a translation run; the outputs of other runs are not compared."""
    from transformer.custom import chosen_task

    settings = settings_of(name)
    if "output" not in chosen_task(settings, custom_task(options.task)).score_options:
        raise ValueError(f"{name} was trained for {settings.trained_task}, not for translation")


def translated(name: str, first: "Settings", options: Namespace) -> "Sequence[Scored]":
    """Translate a text with the run `name`: --data or, by default, the test text in the settings `first`."""
    from transformer.custom import chosen_task
    from transformer.trained import load_pretrained, text_to_score

    task = custom_task(options.task)
    data = text_to_score(first, options.data)
    tell(f"translating {data} with {name}")
    trained = load_pretrained(name, build=custom_build(options.build), task=task, device=options.device)
    return chosen_task(trained.settings, task).score(trained, data).scored


def training_text(file: str | None, settings: "Settings | None") -> "Iterable[str] | None":
    """Read the target side of the training text; warn and return None if the text cannot be found or read."""
    from transformer.data.corpus import load_parallel
    from transformer.data.text import CorpusError, read_lines

    if file is not None:
        return read_lines(file)
    if settings is None:
        warn("no table by frequency: pass --train with the training text in the target language")
        return None
    try:
        return load_parallel(settings.data.train, settings.data.source, settings.data.target)["target"]
    except (CorpusError, OSError) as error:
        warn(f"no table by frequency, because the training text cannot be read: {error}")
        return None
