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
    """One line of the report; `error` is the largest absolute difference, or None if nothing was compared."""

    name: str
    status: Status
    detail: str
    error: float | None = None

    def __str__(self) -> str:
        width = max(map(len, CHECKS))
        return f"  {self.status:<14}  {self.name:<{width}}  {self.detail}".rstrip()


@dataclass(frozen=True)
class ContractReport:
    """The results of all checks; `print` shows one line per check."""

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
        outcome = (
            f"{len(self.failed)} of {len(applied)} checks failed" if self.failed else "all checks passed"
        )
        tolerance = f"{self.tolerance.absolute:g} + {self.tolerance.relative:g} × |expected|"
        title = f"contract of {self.model} ({self.kind}, vocabulary of {self.vocab_size:,}): {outcome}"
        return "\n".join(
            (title, *map(str, self.results), f"tolerance of checks that are not exact: {tolerance}")
        )


def assert_transformer_contract(
    model: nn.Module,
    *,
    kind: Kind | None = None,
    vocab_size: int | None = None,
    atol: float = 1e-4,
    rtol: float = 1e-5,
    seed: int = 0,
) -> ContractReport:
    """Return the report if all checks that apply pass; otherwise raise `AssertionError` with the report.

    `kind` says how `forward` is called and which tokens a position may depend on. By default, `kind` is
    inferred: a model with two inputs, or with `encode` and `decode`, is an encoder_decoder; any other model
    with `prefill` and `step` is decoder_only; all others are encoder_only. A causal model without `prefill`
    and `step` therefore needs `kind="decoder_only"`. By default, `vocab_size` is found by calling the model
    once.

    The model must accept sequences of 9 tokens. The checks restore its mode and its buffers.
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
    """Return the report of `assert_transformer_contract` even if checks fail."""
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
    except Exception as error:  # a model that raises an error also breaks the contract
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
