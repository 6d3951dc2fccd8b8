"""The contract of a Transformer: the laws that a custom model or subclass must keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from transformer.config import Kind
from transformer.testing.checks import CHECKS, Broken, Check, DoesNotApply
from transformer.testing.comparison import Comparison, Tolerance, largest_difference
from transformer.testing.subject import Subject, left_as_found, seed_everything


class Status(StrEnum):
    OK = "ok"
    FAILED = "FAILED"
    DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Result:
    """One line of the report; `error` is the largest absolute difference, None where nothing was compared."""

    name: str
    status: Status
    detail: str
    error: float | None = None

    def __str__(self) -> str:
        width = max(map(len, CHECKS))
        return f"  {self.status:<14}  {self.name:<{width}}  {self.detail}".rstrip()


@dataclass(frozen=True)
class ContractReport:
    """What each check found; printing it gives a line for each."""

    model: str
    kind: Kind
    vocab_size: int
    tolerance: Tolerance
    results: Sequence[Result]

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [result.name for result in self.results if result.status is Status.FAILED]

    def __str__(self) -> str:
        applied = [result for result in self.results if result.status is not Status.DOES_NOT_APPLY]
        outcome = f"{len(self.failed)} of {len(applied)} checks failed" if self.failed else "all is well"
        tolerance = f"{self.tolerance.absolute:g} + {self.tolerance.relative:g} × |expected|"
        title = f"the contract of {self.model} as {self.kind}, {self.vocab_size:,} tokens: {outcome}"
        return "\n".join((title, *map(str, self.results), f"tolerance where not exact: {tolerance}"))


def assert_transformer_contract(
    model: nn.Module,
    *,
    kind: Kind | None = None,
    vocab_size: int | None = None,
    atol: float = 1e-4,
    rtol: float = 1e-5,
    seed: int = 0,
) -> ContractReport:
    """Return the report if every check that applies holds; otherwise raise it as an `AssertionError`.

    `kind` says how `forward` is called and what a position may see. By default a model with two inputs, or
    `encode` and `decode`, is an encoder_decoder, any other with `prefill` and `step` decoder_only, and the
    rest encoder_only; so a causal model without a step protocol needs `kind="decoder_only"`. The default
    `vocab_size` is found by a first call. The model must accept 9 tokens; it is left as it was found.
    """
    report = check_contract(
        model, kind=kind, vocab_size=vocab_size, tolerance=Tolerance(atol, rtol), seed=seed
    )
    if report.failed:
        raise AssertionError(str(report))
    return report


def check_contract(
    model: nn.Module,
    *,
    kind: Kind | None = None,
    vocab_size: int | None = None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008  (immutable)
    seed: int = 0,
) -> ContractReport:
    """Like `assert_transformer_contract`, but failures are only in the report."""
    with left_as_found(model):
        seed_everything(seed)
        model.eval()
        subject = Subject(model, kind, vocab_size)
        results = [run_check(name, check, subject, tolerance) for name, check in CHECKS.items()]
    return ContractReport(type(model).__name__, subject.kind, subject.vocab_size, tolerance, results)


def run_check(name: str, check: Check, subject: Subject, tolerance: Tolerance) -> Result:
    subject.model.eval()
    try:
        with torch.no_grad():
            found = list(check(subject))
    except DoesNotApply as reason:
        return Result(name, Status.DOES_NOT_APPLY, str(reason))
    except Broken as reason:
        return Result(name, Status.FAILED, str(reason))
    except Exception as error:  # raised by the model, which also breaks the contract
        first_line = (str(error).splitlines() or [""])[0]
        return Result(name, Status.FAILED, f"raised {type(error).__name__}: {first_line}")
    remarks = [remark for remark in found if isinstance(remark, str)]
    comparisons = [comparison for comparison in found if isinstance(comparison, Comparison)]
    if not comparisons:
        return Result(name, Status.OK, "; ".join(remarks))
    worst = largest_difference(comparisons, tolerance)
    if not worst.is_allowed:
        detail = f"error {worst.error:.1e}, allowed {worst.allowed:.1e}: {worst.where}"
        return Result(name, Status.FAILED, "; ".join((detail, *remarks)), worst.error)
    return Result(name, Status.OK, "; ".join((f"largest error {worst.error:.1e}", *remarks)), worst.error)
