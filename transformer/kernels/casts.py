"""Casting a tensor once, instead of once for each matrix product that reads it.

autocast, which casts for each product, is the plain version.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def cast_once(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Cast `x` on a GPU as autocast would cast it for a matrix product; elsewhere, return `x` itself.

    Autocast casts a float32 tensor again for each product that reads it: three times for queries, keys and
    values of the same tokens, and twice per decoder layer for the encoder's output. On a CPU, casting once is
    no faster, and separate casts are better, because they let autograd add up the gradients of these products
    in float32.
    """
    if x.is_cuda and x.dtype == torch.float32 and torch.is_autocast_enabled("cuda"):
        return x.to(torch.get_autocast_dtype("cuda"))
    return x
