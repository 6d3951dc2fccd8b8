"""The training loop's cross-entropy, which computes the loss and overwrites the logits with their gradient.

Readers of the paper can skip this file. `smoothed_cross_entropy` in `objectives.py` is the plain version;
`tests/test_fused_loss.py` checks that the two agree.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.amp import GradScaler
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = {"cpu": 2**19, "cuda": 2**28}
"""Logits per chunk. In float32, a chunk is 2 MB on a CPU, to stay in a core's cache, and 1 GB on a GPU, so
few kernels are launched."""

VIEWS = {"ViewBackward0", "UnsafeViewBackward0"}
LINEAR = {
    *("MmBackward0", "AddmmBackward0", "AddBackward0", "MulBackward0", "DivBackward0"),
    "CompiledFunctionBackward",
}
"""Autograd's names for products and sums. The backward passes of these operations do not need their outputs,
so the outputs may be overwritten."""


class GradientScale:
    """The number by which a training loop multiplies the gradient of each loss.

    The number is `factor`; in float16, it is `factor` times the current scale of `scaler`.
    """

    def __init__(self, factor: float, scaler: GradScaler) -> None:
        self.factor = factor
        self.scaler = scaler
        self.made: dict[tuple[torch.dtype, torch.device, torch.Size], Tensor] = {}

    def like(self, loss: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the number as a tensor; losses of the same dtype, device and shape get the same object."""
        key = loss.dtype, loss.device, loss.shape
        if key not in self.made:
            self.made[key] = self.scaler.scale(torch.full_like(loss.detach(), self.factor))
        return self.made[key]


EXPECTED: ContextVar[GradientScale | None] = ContextVar("EXPECTED", default=None)


@contextmanager
def scaling_gradients(scale: GradientScale) -> Iterator[None]:
    """Inside the block, make `overwriting_cross_entropy` multiply its gradient by `scale` while computing it.

    The backward pass must begin with `torch.autograd.backward(total, scale.like(total))`. If the loss
    receives the very tensor `scale.like(total)` as its gradient, the gradient of the logits is already
    scaled, which saves a GPU one pass over the logits. If the loss receives another tensor, for example
    because an objective has multiplied the loss by a number, the backward pass rescales the gradient of the
    logits.
    """
    token = EXPECTED.set(scale)
    try:
        yield
    finally:
        EXPECTED.reset(token)


def overwriting_cross_entropy(
    logits: Float[Tensor, "*positions vocabulary"],
    labels: Int[Tensor, "*positions"],
    *,
    label_smoothing: float,
    pad_id: int,
) -> Float[Tensor, ""]:
    """Compute `smoothed_cross_entropy`; if `logits` need a gradient, the gradient overwrites them.

    No second tensor of the size of the logits is allocated. Nothing else may read `logits` after this
    call, and a second backward pass raises a `RuntimeError`. If `logits` are the output of an operation other
    than a product or a sum, such as log_softmax, they are copied first, because the backward pass of that
    operation may need its output. Under `torch.no_grad()`, the logits are left unchanged.

    Under `torch.compile`, this function calls torch's own loss. If the model is in the same graph, inductor
    fuses the loss into two kernels. The first reads the logits and computes the loss. The second computes the
    gradient, scales it and overwrites the logits with it.
    """
    if torch.compiler.is_compiling():
        scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
        return F.cross_entropy(
            scores, labels.flatten(), ignore_index=pad_id, label_smoothing=label_smoothing, reduction="sum"
        )
    if not torch.is_grad_enabled():
        logits = logits.detach()
    if logits.requires_grad and not is_linear(logits):
        logits = logits.clone()
    return OverwritingCrossEntropy.apply(logits.flatten(0, -2), labels.flatten(), label_smoothing, pad_id)  # type: ignore[no-untyped-call]


def is_linear(logits: Tensor) -> bool:
    """Whether these logits are the output of a product or a sum, such as a linear layer."""
    node = logits.grad_fn
    while node is not None and node.name() in VIEWS:
        node = node.next_functions[0][0]
    return node is not None and node.name() in LINEAR


class OverwritingCrossEntropy(torch.autograd.Function):
    """Computes loss and gradient a few rows at a time, both from one softmax while it is in the cache."""

    @staticmethod
    def forward(
        context: Any,
        logits: Float[Tensor, "tokens vocabulary"],
        labels: Int[Tensor, " tokens"],
        epsilon: float,
        pad_id: int,
    ) -> Float[Tensor, ""]:
        vocabulary = logits.shape[1]
        dtype = torch.promote_types(logits.dtype, torch.float32)
        is_real = labels != pad_id
        labels = labels.masked_fill(~is_real, 0)  # any class will do; `pad_id` may be outside the vocabulary
        total = torch.zeros((), dtype=dtype, device=logits.device)
        expected = EXPECTED.get()
        scale = None if expected is None else expected.like(total)
        weights = is_real.to(dtype) if scale is None else is_real * scale  # factors of the rows' gradients
        elements = CHUNK_ELEMENTS.get(logits.device.type, CHUNK_ELEMENTS["cuda"])
        rows = max(1, elements // vocabulary)
        chunks = zip(*(torch.split(x, rows) for x in (logits, labels, is_real, weights)), strict=True)
        for part, gold, real, weight in chunks:
            # a CPU reduces float32 several times faster than bfloat16; a GPU's kernels convert as they read
            scores = part.to(dtype) if part.is_cpu else part
            score = scores.gather(1, gold[:, None])[:, 0].to(dtype)
            if epsilon:  # skipped for ε = 0, because a logit of -inf would make the score NaN: 0 × -inf
                score = (1 - epsilon) * score + epsilon * scores.mean(dim=1, dtype=dtype)
            probabilities = scores.softmax(dim=1, dtype=dtype)  # fast, but its rows sum only to almost 1
            one = probabilities.sum(dim=1)
            # log Σ exp(scores) = max score - log(max probability), safe because that probability is ≥ 1 / V
            log_sums = scores.amax(dim=1) - (probabilities.amax(dim=1) / one).log()
            total += (log_sums - score).masked_fill(~real, 0).sum()
            if context.needs_input_grad[0]:
                write_gradient(probabilities, one, gold, weight, epsilon, out=part)
        context.gradient = logits if context.needs_input_grad[0] else None
        context.scale = scale
        return total

    @staticmethod
    @once_differentiable
    def backward(context: Any, scale: Float[Tensor, ""]) -> tuple[Tensor, None, None, None]:
        gradient, context.gradient = context.gradient, None
        if gradient is None:
            raise RuntimeError(
                "overwriting_cross_entropy keeps its gradient in the memory of the logits, and so allows one "
                "backward pass; for a second one through a retained graph use smoothed_cross_entropy"
            )
        if scale is not context.scale:
            gradient.mul_(scale if context.scale is None else scale / context.scale)
        return gradient, None, None, None


def write_gradient(
    probabilities: Float[Tensor, "rows vocabulary"],
    one: Float[Tensor, " rows"],
    gold: Int[Tensor, " rows"],
    weight: Float[Tensor, " rows"],
    epsilon: float,
    *,
    out: Float[Tensor, "rows vocabulary"],
) -> None:
    """Write the model's distribution minus the smoothed target, times each row's weight, to `out`.

    `one` holds the sum of each row of `probabilities`, which is almost 1. `probabilities` may be overwritten.
    Each number is rounded to the dtype of `out` only once.
    """
    gold, slope = gold[:, None], (weight / one)[:, None]
    rest = (weight * (-epsilon / probabilities.shape[1]))[:, None]
    at_gold = probabilities.gather(1, gold) * slope + rest - (1 - epsilon) * weight[:, None]
    if not out.is_cpu:  # one pass over the memory
        torch.addcmul(rest, probabilities, slope, out=out).scatter_(1, gold, at_gold.to(out.dtype))
        return
    # In the cache, several passes are fast. `addcmul` is not vectorised for one-column operands, and in
    # bfloat16 `scatter_` takes as long as a softmax.
    slopes = out if out.dtype == probabilities.dtype else probabilities
    torch.add(probabilities.mul_(slope), rest, out=slopes).scatter_(1, gold, at_gold)
    if slopes is not out:
        out.copy_(slopes)
