"""`transformer generate`: continue a prompt with a language model."""

import sys

from jsonargparse import Namespace

from transformer.cli.custom_code import custom_build
from transformer.cli.options import add_device_option, add_precision_option, add_run_option
from transformer.config.checks import require_seed
from transformer.config.parser import command_parser

DESCRIPTION = """Continue a prompt with a trained language model; the text appears token by token. By default,
tokens are sampled from the model's distribution, and the same seed gives the same text. A subword model stops
when it predicts the end of the line; a character model always continues to --max-length."""

LONGEST = 1_000_000
"""The largest --max-length, in tokens. Long outputs are slow: a new token attends to all previous tokens."""


def run(arguments: list[str], prog: str) -> None:
    options = parse(arguments, prog)
    import torch

    from transformer.decoding.generator import TextGenerator
    from transformer.decoding.sampling import Sampler
    from transformer.decoding.search import greedy

    generator = TextGenerator.from_pretrained(
        options.run,
        build=custom_build(options.build),
        device=options.device,
        precision=options.precision,
    )
    device = next(generator.model.parameters()).device
    randomness = torch.Generator(device).manual_seed(1 if options.seed is None else options.seed)
    sampler = Sampler(options.temperature, options.top_k, options.top_p, randomness)
    for number in range(1, options.samples + 1):
        if options.samples > 1:
            print(f"--- {number}")
        generator.continue_text(
            options.prompt,
            max_length=options.max_length,
            choose=greedy if options.greedy else sampler,
            write=write,
        )
        write("\n")


def parse(arguments: list[str], prog: str) -> Namespace:
    parser = command_parser(prog, DESCRIPTION)
    add_run_option(parser)
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    parser.add_argument(
        "--max-length", type=int, default=500, help="maximum number of new tokens, at most 1,000,000"
    )
    parser.add_argument("--greedy", action="store_true", help="always take the most probable token")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: more predictable; above 1: more varied"
    )
    parser.add_argument("--top-k", type=int, help="sample from the N most probable tokens only")
    parser.add_argument(
        "--top-p", type=float, help="sample from the smallest set of tokens with this total probability"
    )
    parser.add_argument("--samples", type=int, default=1, help="number of continuations")
    parser.add_argument("--seed", type=int, help="random seed (default: 1)")
    add_device_option(parser)
    add_precision_option(parser)
    options = parser.parse_args(arguments)
    for name in ("max_length", "samples"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}; it must be at least 1")
    if options.max_length > LONGEST:
        raise ValueError(f"--max-length is {options.max_length}; it must be at most {LONGEST:,}")
    cuts = (options.top_k, options.top_p, options.seed)
    if options.greedy and (options.temperature != 1 or any(value is not None for value in cuts)):
        raise ValueError("--greedy does not sample; leave out --temperature, --top-k, --top-p and --seed")
    if options.seed is not None:
        require_seed("--seed", options.seed)
    return options


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
