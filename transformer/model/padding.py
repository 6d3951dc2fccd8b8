"""Checks that token rows are right-padded, as every model of this package requires."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def require_right_padded(tokens: Int[Tensor, "batch length"], pad_id: int) -> None:
    """Raise `ValueError` if a row has no token, or has a pad before a token; the error names the row.

    The check reads values back from the device, so on a GPU it forces one synchronization.
    """
    is_pad = tokens == pad_id
    if tokens.shape[1] == 0:
        raise ValueError(first_token_missing(is_pad, pad_id))
    is_before_token = (is_pad[:, :-1] & ~is_pad[:, 1:]).any(dim=1)
    begins_with_pad, has_gap = torch.stack((is_pad[:, 0].any(), is_before_token.any())).tolist()
    if begins_with_pad:
        raise ValueError(first_token_missing(is_pad, pad_id))
    if has_gap:
        row = int(is_before_token.int().argmax())
        raise ValueError(
            f"row {row} of the batch has a pad ({pad_id}) between tokens; "
            "pads belong after all tokens of a row"
        )


def check_first_tokens(tokens: Int[Tensor, "batch length"], pad_id: int) -> None:
    """Raise `ValueError` if a row begins with a pad.

    Positions are counted from the left, so padding on the left would shift the sentence. In a row that holds
    only padding, attention would have no key to attend to. The check runs only on a CPU, where reading values
    costs almost nothing, and not while the forward pass is being compiled, traced or transformed by
    `torch.func`, as in `vmap`.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore
    is_transformed = torch._C._functorch.peek_interpreter_stack() is not None
    is_plain = tokens.is_cpu and type(tokens) is Tensor
    if is_plain and not is_traced and not is_transformed and bool((tokens[:, :1] == pad_id).any()):
        raise ValueError(first_token_missing(tokens == pad_id, pad_id))


def first_token_missing(is_pad: Bool[Tensor, "batch length"], pad_id: int) -> str:
    """Return the error message for the first row that does not begin with a token."""
    row = int(is_pad[:, :1].int().sum(dim=1).argmax())
    if bool(is_pad[row].all()):
        return f"row {row} of the batch holds no token, only pads ({pad_id}); leave such rows out"
    return f"row {row} of the batch begins with a pad ({pad_id}); pads belong after all tokens of a row"
