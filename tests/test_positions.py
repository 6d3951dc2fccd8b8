"""Positional encodings (§3.5)."""

import math

import pytest
import torch
from helpers import assert_close, tiny_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transformer.model.build import build_model
from transformer.model.positions import LearnedEncoding, SinusoidalEncoding, Tensor2TensorEncoding


@pytest.mark.parametrize("d_model", [2, 6, 512])
@pytest.mark.parametrize("position", [0, 1, 77, 1023, 10_000])
def test_sinusoids_equal_the_closed_form(position, d_model):
    encoding = SinusoidalEncoding(d_model)(torch.tensor([position]))[0]
    angles = [position / 10_000 ** (2 * i / d_model) for i in range(d_model // 2)]
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]  # interleaved
    torch.testing.assert_close(encoding, torch.tensor(expected), rtol=0, atol=2e-7)


@pytest.mark.parametrize("d_model", [2, 4, 512])
@pytest.mark.parametrize("position", [0, 1, 77, 1023, 10_000])
def test_wavelengths_of_tensor2tensor_are_a_geometric_series_from_1_to_10_000(position, d_model):
    """In units of 2π, as its `get_timing_signal_1d` and Marian's `sinusoidalPositionEmbeddings` have them."""
    encoding = Tensor2TensorEncoding(d_model)(torch.tensor([position]))[0]
    number = d_model // 2
    increment = math.log(10_000) / max(number - 1, 1)
    angles = [position * math.exp(-increment * i) for i in range(number)]
    expected = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    torch.testing.assert_close(encoding, torch.tensor(expected), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 3)])
def test_positions_of_any_shape_get_one_more_axis(shape):
    positions = torch.randint(0, 100, shape)
    encoded = SinusoidalEncoding(8)(positions)
    assert encoded.shape == (*shape, 8)
    assert torch.equal(encoded.flatten(0, -2), SinusoidalEncoding(8)(positions.flatten()))


def test_a_device_without_float64_gets_none():
    """On fake tensors; `mps` is such a device."""
    found = set()

    class Results(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **kwargs or {})
            tensors = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
            found.update((each.device.type, each.dtype) for each in tensors)
            return result

    with FakeTensorMode(), Results():
        vectors = SinusoidalEncoding(8)(torch.zeros(2, 5, dtype=torch.int64, device="mps"))
    assert (vectors.device.type, vectors.dtype) == ("mps", torch.float32)
    assert ("cpu", torch.float64) in found
    assert ("mps", torch.float64) not in found


@pytest.mark.parametrize("offset", [1, 5, 100])
def test_a_shift_is_a_rotation(offset):
    """PE(pos + k) = R_k PE(pos), with the same R_k for all positions: the paper's reason for sinusoids."""
    d_model = 8
    encoding = SinusoidalEncoding(d_model)
    rotation = torch.zeros(d_model, d_model)
    for i in range(0, d_model, 2):
        angle = offset / 10_000 ** (i / d_model)
        sin, cos = math.sin(angle), math.cos(angle)
        rotation[i : i + 2, i : i + 2] = torch.tensor([[cos, sin], [-sin, cos]])
    positions = torch.arange(500)
    torch.testing.assert_close(
        encoding(positions + offset), encoding(positions) @ rotation.T, rtol=0, atol=1e-6
    )


class OnMps(torch.Tensor):
    """A tensor that claims to be on Apple's GPU until it is copied to the CPU."""

    is_mps = True

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_sinusoids_are_computed_on_the_cpu_for_a_device_without_float64():
    positions = torch.arange(7)
    encoding = SinusoidalEncoding(8)
    computed = []
    encoding.register_forward_pre_hook(lambda _, inputs: computed.append(type(inputs[0])))
    assert torch.equal(encoding(positions.as_subclass(OnMps)), encoding(positions))
    assert computed[:2] == [OnMps, torch.Tensor]


def test_an_odd_width_has_no_pairs():
    with pytest.raises(ValueError, match="d_model is 7; sinusoidal positions need an even width"):
        SinusoidalEncoding(7)


def test_sinusoids_have_no_parameters_and_nothing_to_save():
    encoding = SinusoidalEncoding(8)
    assert not list(encoding.parameters())
    assert not encoding.state_dict()


def test_learned_positions_are_rows_of_a_table():
    encoding = LearnedEncoding(10, 4)
    assert_close(encoding(torch.tensor([[3, 9]])), encoding.weight[None, [3, 9]])


def test_learned_positions_say_how_far_they_reach():
    model = build_model(tiny_config(kind="decoder_only", positions="learned", max_positions=5))
    model(torch.full((1, 5), 4))
    message = r"a sequence of 6 tokens is longer than the 5 learned positions \(model.max_positions\)"
    with pytest.raises(ValueError, match=message):
        model(torch.full((1, 6), 4))
    with pytest.raises(ValueError, match=message):
        model.prefill(torch.full((1, 4), 4), max_length=2)


def test_learned_positions_limit_a_translation():
    model = build_model(tiny_config(positions="learned", max_positions=5))
    with pytest.raises(ValueError, match="a sequence of 6 tokens"):
        model.prefill(torch.full((1, 4), 4), max_length=6)


def test_a_model_made_without_memory_can_be_filled():
    """A model built on the meta device and then given memory and weights computes its encoding correctly."""
    config = tiny_config(kind="decoder_only")
    with torch.device("meta"):
        model = build_model(config)
    filled, tokens = model.to_empty(device="cpu").eval(), torch.tensor([[4, 5]])
    original = build_model(config).eval()
    filled.load_state_dict(original.state_dict())
    assert_close(filled(tokens), original(tokens))
