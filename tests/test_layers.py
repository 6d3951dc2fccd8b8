"""Embedding, feed-forward network and the residual connection around sub-layers."""

import math

import torch
import torch.nn.functional as F
from helpers import assert_close
from torch import nn

from transformer.model.layers import FeedForward, PostNorm, PreNorm, TokenEmbedding
from transformer.model.positions import SinusoidalEncoding

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))


def layer_norm(x, norm):
    """(x − mean) / √(variance + ε), with the biased variance."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * norm.weight + norm.bias


def randomised(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_post_norm_is_the_papers_formula():
    residual = randomised(PostNorm(8))
    assert_close(residual(X, torch.sin), layer_norm(X + torch.sin(X), residual.norm))


def test_pre_norm_normalises_what_enters_the_sublayer():
    residual = randomised(PreNorm(8))
    assert_close(residual(X, torch.sin), X + torch.sin(layer_norm(X, residual.norm)))


def test_only_pre_norm_needs_a_final_norm():
    assert isinstance(PostNorm.final_norm(8), nn.Identity)
    final = randomised(PreNorm.final_norm(8))
    assert_close(final(X), layer_norm(X, final))


def test_residual_dropout_drops_the_sublayers_output_and_never_its_input():
    ones = torch.ones(50, 50, 8)
    change = PreNorm(8, dropout=0.25)(ones, torch.ones_like) - ones
    kept = change != 0
    assert_close(change[kept], torch.full_like(change[kept], 1 / 0.75))
    assert 0.74 < kept.float().mean() < 0.76


def test_feed_forward_is_equation_2():
    network = randomised(FeedForward(8, 5, F.relu))
    w_1, w_2 = network.w_1, network.w_2
    expected = (X @ w_1.weight.T + w_1.bias).clamp(min=0) @ w_2.weight.T + w_2.bias
    assert_close(network(X), expected)


def test_feed_forward_takes_any_activation():
    network = FeedForward(8, 5, torch.tanh)
    assert_close(network(X), network.w_2(torch.tanh(network.w_1(X))))


def test_activation_dropout_acts_inside_in_training_only():
    network = FeedForward(8, 5, F.relu, dropout=0.5)
    assert not torch.equal(network(X), network(X))
    network.eval()
    assert torch.equal(network(X), network(X))


def test_embeddings_are_scaled_before_positions_are_added():
    table = nn.Embedding(11, 8)
    tokens, positions = torch.tensor([[3, 5, 3]]), torch.tensor([[0, 1, 2]])
    embedded = TokenEmbedding(table, SinusoidalEncoding(8))(tokens, positions)
    assert_close(embedded, table.weight[tokens] * math.sqrt(8) + SinusoidalEncoding(8)(positions))


def test_dropout_acts_on_the_sum_of_embedding_and_position():
    embedding = TokenEmbedding(nn.Embedding(11, 8), SinusoidalEncoding(8), dropout=0.5)
    tokens, positions = torch.full((40, 40), 3), torch.arange(40)[None]
    dropped = embedding(tokens, positions)
    whole = embedding.eval()(tokens, positions)
    kept = dropped != 0
    assert_close(dropped[kept], 2 * whole[kept])
    assert 0.48 < kept.float().mean() < 0.52
