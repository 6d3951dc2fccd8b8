"""Code that all tasks use for validation; each process evaluates only some of the batches."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from transformer.data.epochs import EpochBatches
from transformer.hardware import without_cudnn_attention
from transformer.training.distributed import Group, is_sharded
from transformer.training.objectives import Objective


@torch.no_grad()
@without_cudnn_attention()
def mean_loss(
    model: nn.Module, batches: EpochBatches[Any], objective: Objective, group: Group
) -> tuple[float, int]:
    """Compute the loss per token and the number of tokens, over all processes.

    A model that is sharded over the processes stays sharded: a layer's parameters are gathered only while the
    layer computes.
    """
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    for batch in batches.one_pass(group.rank, group.size):
        loss = objective(model, batch.to(device))
        total += float(loss.total)
        tokens += loss.tokens
    plan = batches.epoch(0)
    if is_sharded(model) and group.rank >= len(plan) % group.size > 0:
        # No batch is left for this process in the last round, but the parameters can be gathered only if all
        # processes take part. So this process runs the model once more and ignores the result.
        objective(model, batches.fetch(plan[0]).to(device))
    total, tokens = group.sum_tensor(torch.tensor([total, tokens], dtype=torch.float64)).tolist()
    return total / tokens, int(tokens)


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # a greater loss would overflow exp


@torch.no_grad()
@without_cudnn_attention()
def outputs(model: nn.Module, *inputs: Tensor) -> Tensor:
    device = next(model.parameters()).device
    return model(*(tensor.to(device) for tensor in inputs)).float().cpu()
