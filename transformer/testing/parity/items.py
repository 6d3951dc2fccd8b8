"""The items that `transformer selftest` compares, and the table that it prints."""

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import torch

from transformer.config import Kind
from transformer.model.build import build_model
from transformer.testing.checks import any_chunking
from transformer.testing.comparison import Comparison, Tolerance, largest_difference
from transformer.testing.contract import check_contract
from transformer.testing.parity import hugging_face, torch_layers
from transformer.testing.parity.numpy_reference import NumpyTransformer
from transformer.testing.parity.samples import (
    SOURCE_LENGTHS,
    TARGET_LENGTHS,
    random_tokens,
    randomised,
    small_config,
)
from transformer.testing.subject import Subject

TOLERANCE = Tolerance(absolute=1e-4, relative=0.0)
KINDS: tuple[Kind, ...] = ("encoder_decoder", "decoder_only", "encoder_only")
WIDTH = 56


class Item(NamedTuple):
    """One line of the table."""

    name: str
    error: float
    tolerance: float
    detail: str = ""

    @property
    def is_ok(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        line = f"{self.name:<{WIDTH}}{self.error:>13.1e}{self.tolerance:>11.0e}"
        return f"{line}  ok" if self.is_ok else f"{line}  FAILED  {self.detail}"


def numpy_model(device: torch.device) -> Iterator[Comparison]:
    config = small_config()
    ours = randomised(build_model(config)).to(device)
    by_hand = NumpyTransformer(ours, config.num_heads, config.num_layers)
    source = random_tokens(SOURCE_LENGTHS, config)
    target = random_tokens(TARGET_LENGTHS, config, first=config.bos_id)
    logits = ours(source.to(device), target.to(device))
    for row, (source_length, length) in enumerate(zip(SOURCE_LENGTHS, TARGET_LENGTHS, strict=True)):
        expected = by_hand(source[row, :source_length].tolist(), target[row, :length].tolist())
        yield Comparison(f"logits of row {row}", logits[row, :length], torch.from_numpy(expected))


def cached_decoding(device: torch.device) -> Iterator[Comparison]:
    """Compare decoding in chunks with one forward pass, for both decoder kinds, with post- and pre-norm."""
    for kind in ("encoder_decoder", "decoder_only"):
        for norm in ("post", "pre"):
            model = randomised(build_model(small_config(kind=kind, norm=norm))).to(device)
            for found in any_chunking(Subject(model)):
                assert isinstance(found, Comparison)  # `any_chunking` yields no remarks
                yield found._replace(where=f"{kind} {norm}-norm, {found.where}")


Parity = Callable[[torch.device], Iterable[Comparison]]

OWN: dict[str, Parity] = {
    "attention equation vs fused kernel": torch_layers.equation_against_kernel,
    "multi-head attention vs torch.nn": torch_layers.multi_head_attention,
    "encoder layer vs torch.nn, post- and pre-norm": torch_layers.encoder_layers,
    "decoder layer vs torch.nn, post- and pre-norm": torch_layers.decoder_layers,
    "the paper's model vs NumPy in float64": numpy_model,
    "decoding with a cache vs one pass": cached_decoding,
}
HUGGING_FACE: dict[str, Parity] = {
    "encoder-decoder vs Marian": hugging_face.marian,
    "decoder-only vs GPT-2": hugging_face.gpt2,
    "encoder-only vs BERT": hugging_face.bert,
}


def parities() -> dict[str, Parity]:
    """Return all comparisons whose packages are installed."""
    return OWN | HUGGING_FACE if find_spec("transformers") else OWN


def skipped() -> str:
    """Say in one line which items `parities` leaves out and why; return "" if it leaves out none."""
    if find_spec("transformers"):
        return ""
    return f"skipped: {', '.join(HUGGING_FACE)} (transformers is not installed: pip install transformers)"


def measure(name: str, parity: Parity, device: torch.device, seed: int) -> Item:
    """Measure the largest error; random generators are seeded, so earlier items have no effect."""
    torch.manual_seed(seed)
    with torch.no_grad():
        worst = largest_difference(parity(device), TOLERANCE)
    return Item(name, worst.error, TOLERANCE.absolute, worst.where)


def measure_contract(kind: Kind, device: torch.device, seed: int) -> Item:
    """Measure the largest error of all checks of the contract: infinity if a check fails."""
    torch.manual_seed(seed)
    model = randomised(build_model(small_config(kind=kind))).to(device)
    report = check_contract(model, tolerance=TOLERANCE, seed=seed)
    errors = [result.error for result in report.results if result.error is not None]
    error = torch.inf if report.failed else max(errors)
    return Item(f"contract of {kind}", error, TOLERANCE.absolute, ", ".join(report.failed))


def selftest(device: torch.device, seed: int) -> Iterator[Item]:
    """Yield each item as soon as it is measured."""
    for name, parity in parities().items():
        yield measure(name, parity, device, seed)
    for kind in KINDS:
        yield measure_contract(kind, device, seed)
