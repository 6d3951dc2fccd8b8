"""`transformer selftest`: compare this installation with independent implementations."""

from importlib import metadata
from importlib.util import find_spec

from transformer.cli.options import add_device_option
from transformer.config.checks import require_seed
from transformer.config.parser import command_parser

DESCRIPTION = """Compare this installation, on small random models, with implementations that share no code
with it, and print the largest absolute error of each item. The references are torch.nn's layers, the paper's
equations in NumPy and float64, and, if `transformers` is installed, Marian, GPT-2 and BERT with the same
weights. Then run the checks of transformer.testing, which you can also run on a custom model. The exit code
is 1 if an error exceeds its tolerance."""


def run(arguments: list[str], prog: str) -> int:
    parser = command_parser(prog, DESCRIPTION)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the weights and batches")
    add_device_option(parser)
    options = parser.parse_args(arguments)
    require_seed("--seed", options.seed)

    from transformer.hardware import choose_device
    from transformer.testing.parity.items import WIDTH, selftest, skipped

    device = choose_device(options.device)
    packages = [name for name in ("torch", "numpy", "transformers") if find_spec(name)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"on {device} with {versions}, float32, seed {options.seed}\n")
    print(f"{'item':<{WIDTH}}{'largest error':>13}{'tolerance':>11}")
    items = []
    for item in selftest(device, options.seed):
        print(item, flush=True)
        items.append(item)
    failed = sum(not item.is_ok for item in items)
    print(f"\n{failed} of {len(items)} items FAILED" if failed else f"\nall {len(items)} items agree")
    if note := skipped():
        print(note)
    return 1 if failed else 0
