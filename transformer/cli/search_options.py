"""The options of `translate` that decide how it searches or samples."""

from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from transformer.config.parser import CommandParser

if TYPE_CHECKING:
    from transformer.decoding.lines import LineTranslator
    from transformer.decoding.search import Processor
    from transformer.decoding.translator import Translator


def add_search_options(parser: CommandParser) -> None:
    parser.add_argument(
        "--beam-size", type=int, help="hypotheses per sentence; 1 is greedy (default: the run's)"
    )
    parser.add_argument("--alpha", type=float, help="exponent of the length penalty (default: the run's)")
    parser.add_argument(
        "--min-length", type=int, help="minimum number of tokens per translation, end of sentence included"
    )
    parser.add_argument(
        "--no-repeat", type=int, metavar="N", help="never repeat a sequence of N tokens in a translation"
    )
    parser.add_argument(
        "--prefixes",
        metavar="FILE",
        help="text that each translation must start with, one line per input line; lines may be blank",
    )
    parser.add_argument(
        "--sample", action="store_true", help="sample translations instead of searching for the best"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: more predictable; above 1: more varied"
    )
    parser.add_argument("--top-k", type=int, help="sample from the N most probable tokens only")
    parser.add_argument(
        "--top-p", type=float, help="sample from the smallest set of tokens with this total probability"
    )
    parser.add_argument("--seed", type=int, help="random seed of --sample (default: 1)")


def require_one_way_to_choose(options: Namespace) -> None:
    """Raise `ValueError` if options of beam search are combined with options of sampling."""
    if options.sample:
        if options.beam_size is not None or options.alpha is not None:
            raise ValueError(
                "--beam-size and --alpha are for beam search; leave out either these or --sample"
            )
    elif options.temperature != 1 or any(
        value is not None for value in (options.top_k, options.top_p, options.seed)
    ):
        raise ValueError("--temperature, --top-k, --top-p and --seed need --sample")


def processors(translator: "LineTranslator", options: Namespace) -> "list[Processor]":
    if not (options.min_length or options.no_repeat):
        return []
    from transformer.decoding.processors import MinLength, NoRepeat

    chosen: list[Processor] = []
    if options.min_length:
        chosen.append(MinLength(options.min_length, translator.config.eos_id))
    if options.no_repeat:
        chosen.append(NoRepeat(options.no_repeat))
    return chosen


def sampler(translator: "Translator", first_line: int, options: Namespace) -> Any:
    """Return the sampler for one chunk of the input.

    The sampler's seed depends only on --seed and on the number of the chunk's first line, not on the process
    that translates the chunk, so the translations are the same with any number of processes.
    """
    import torch

    from transformer.decoding.sampling import Sampler

    generator = torch.Generator(next(translator.model.parameters()).device)
    seed = 1 if options.seed is None else options.seed
    generator.manual_seed(
        (seed + first_line * 2_654_435_761) % 2**32
    )  # the large prime keeps the seeds of neighbouring chunks apart
    return Sampler(options.temperature, options.top_k, options.top_p, generator)
