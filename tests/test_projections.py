"""Queries, keys and values from one product: the same results, parameters and hooks as from three."""

import copy

import pytest
import torch
from helpers import VARIANTS, assert_close, right_padded, tiny_model
from test_packed import ATTACHMENTS, CHANGES

from transformer.decoding.beam import beam_search
from transformer.kernels import linear as packed
from transformer.kernels.linear import pack
from transformer.model import projections
from transformer.model.attention import MultiHeadAttention
from transformer.model.projections import JoinedAttention, join, join_projections
from transformer.model.recording import record_attention


@pytest.fixture(params=["packed", "plain"], autouse=True)
def smallest(request, monkeypatch):
    """Join tiny projections into a packed matrix, or into a plain one."""
    monkeypatch.setattr(projections, "SMALL", 1 if request.param == "packed" else 10**9)
    monkeypatch.setattr(packed, "is_faster_packed", lambda *_: True)


def joined_copy_of(attention, dtype=torch.float32):
    joined = copy.deepcopy(attention)
    join(joined, dtype)
    return joined


def attend(attention, x):
    return attention(x, attention.project_kv(x), is_causal=True)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_joined_projections_attend_the_same(bias):
    plain = MultiHeadAttention(16, 2, bias=bias)
    joined, x = joined_copy_of(plain), torch.randn(3, 5, 16)
    for expected, found in zip(plain.project_kv(x), joined.project_kv(x), strict=True):
        assert_close(found, expected)
    assert joined.queries is not None
    assert_close(joined.project_q(x), plain.project_q(x))
    assert_close(attend(joined, x), attend(plain, x))
    assert joined.queries is None  # nothing is kept between calls
    kv = joined.project_kv(x)
    assert_close(
        joined(2 * x, kv), plain(2 * x, kv)
    )  # the queries of other tokens are not those that were kept


@torch.no_grad()
@pytest.mark.parametrize("name", ["w_q", "w_v"])
@pytest.mark.parametrize("change", CHANGES)
def test_joined_projections_follow_the_weights(name, change):
    plain, x = MultiHeadAttention(16, 2, bias=True), torch.randn(3, 5, 16)
    joined = joined_copy_of(plain)
    pack(getattr(joined, name))
    before = attend(joined, x)
    change(getattr(joined, name))
    plain.load_state_dict(joined.state_dict())
    assert_close(attend(joined, x), attend(plain, x))
    assert not torch.allclose(attend(joined, x), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["w_q", "w_v"])
@pytest.mark.parametrize("attach", ATTACHMENTS)
def test_what_is_attached_to_a_projection_has_its_effect(name, attach):
    plain, x = MultiHeadAttention(16, 2, bias=True), torch.randn(3, 5, 16)
    joined = joined_copy_of(plain)
    before = attend(joined, x)
    for attention in (plain, joined):
        torch.manual_seed(1)  # spectral norm starts from a random vector
        attach(getattr(attention, name).eval())
    assert_close(attend(joined, x), attend(plain, x))
    assert not torch.allclose(attend(joined, x), before)


def test_joined_projections_train():
    joined, x = joined_copy_of(MultiHeadAttention(16, 2)), torch.randn(3, 5, 16)
    assert dict(joined.named_parameters()).keys() == {f"w_{name}.weight" for name in "qkvo"}
    attend(joined, x).sum().backward()
    assert joined.w_q.weight.grad is not None


class Doubling(MultiHeadAttention):
    def project_q(self, x, positions=None):
        return 2 * super().project_q(x, positions)


def test_only_plain_attention_to_itself_is_joined():
    model = tiny_model()
    own = model.decoder.blocks[0].self_attention = Doubling(16, 2)
    join_projections(model)
    assert type(own) is Doubling
    assert type(model.decoder.blocks[1].self_attention) is JoinedAttention
    assert type(model.decoder.blocks[1].cross_attention) is MultiHeadAttention
    widths = tiny_model(**VARIANTS["free widths"])
    join_projections(widths)
    assert not any(isinstance(module, JoinedAttention) for module in widths.modules())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
def test_a_joined_model_finds_the_same(kind):
    model, sources = tiny_model(kind=kind), right_padded([[5, 7, 3], [4], [8, 9]])
    options = {"beam_size": 3, "alpha": 0.6, "max_length": 6, "n_best": 3}
    expected = beam_search(model, sources, **options)
    names = list(model.state_dict())
    join_projections(model)
    assert list(model.state_dict()) == names
    found = beam_search(model, sources, **options)
    assert torch.equal(found.tokens, expected.tokens)
    assert_close(found.scores, expected.scores)


@torch.no_grad()
def test_attention_is_recorded_as_before():
    model, tokens = tiny_model(), torch.tensor([[5, 6, 7, 2]])
    joined = copy.deepcopy(model)
    join_projections(joined)
    found = []
    for each in (model, joined):
        with record_attention(each) as weights:
            each(tokens, tokens)
        found.append(weights)
    assert_close(found[1], found[0])


@torch.no_grad()
def test_joined_projections_can_be_copied(tmp_path):
    joined, x = joined_copy_of(MultiHeadAttention(16, 2)), torch.randn(3, 5, 16)
    expected = attend(joined, x)
    joined.project_kv(x)
    torch.save(joined, tmp_path / "attention")
    for again in (copy.deepcopy(joined), torch.load(tmp_path / "attention", weights_only=False)):
        assert again.queries is None
        assert_close(attend(again, x), expected)


@torch.no_grad()
def test_joined_projections_can_be_moved_to_empty_memory():
    plain, x = MultiHeadAttention(16, 2), torch.randn(3, 5, 16)
    joined = joined_copy_of(plain)
    attend(joined, x)
    with torch.device("meta"):
        empty = joined_copy_of(MultiHeadAttention(16, 2))
    for moved in (joined, empty):
        moved.to_empty(device="cpu", recurse=True)
        assert moved.joined.latest is None
        moved.load_state_dict(plain.state_dict())
        assert_close(attend(moved, x), attend(plain, x))
