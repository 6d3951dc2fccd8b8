"""Positional encodings (§3.5)."""

import copy
import math
import pickle
from unittest.mock import patch

import pytest
import torch
from helpers import assert_close, tiny_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from transformer.kernels.positions import LARGEST, below
from transformer.model.build import build_model
from transformer.model.masks import sequence_positions
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
    with patch.object(encoding, "waves", wraps=encoding.waves) as waves:
        assert torch.equal(encoding(positions.as_subclass(OnMps)), encoding.waves(positions))
    assert [type(each.args[0]) for each in waves.call_args_list[:2]] == [OnMps, torch.Tensor]


# The table


@pytest.mark.parametrize("encoding", [SinusoidalEncoding(8), Tensor2TensorEncoding(8)])
def test_looked_up_vectors_are_the_computed_ones(encoding):
    for limit in (1, 64, 65, LARGEST, LARGEST + 1):
        positions = torch.randint(0, limit, (2, 3))
        positions[0, 0] = limit - 1
        found = encoding(below(positions, limit))
        torch.testing.assert_close(found, encoding.waves(positions), rtol=0, atol=1e-7)


def test_they_are_computed_once():
    encoding = SinusoidalEncoding(8)
    with patch.object(encoding, "waves", wraps=encoding.waves) as waves:
        for limit in (3, 64, 2):
            encoding(below(torch.arange(limit), limit))
        assert waves.call_count == 1
        encoding(below(torch.arange(65), 65))
        encoding(below(torch.arange(128), 128))
        assert waves.call_count == 2  # it has grown to twice the size


def test_without_a_limit_or_with_a_large_one_nothing_is_looked_up():
    encoding = SinusoidalEncoding(8)
    known = below(torch.arange(3), 3)
    encoding(known)
    far = known + 10_000  # what is computed from these positions has no limit
    assert_close(encoding(far), encoding.waves(far))
    far = below(far, 10_003)
    assert_close(encoding(far), encoding.waves(far))
    assert len(encoding.table.rows) <= LARGEST


def test_a_table_follows_device_dtype_and_kind_of_tensor():
    encoding = SinusoidalEncoding(8)

    def look_up(device="cpu"):
        positions = torch.zeros(1, 3, dtype=torch.int64, device=device)
        return encoding(below(positions, 3))

    expected = look_up()
    assert look_up("meta").device.type == "meta"
    assert_close(look_up(), expected)
    with FakeTensorMode():
        assert look_up("mps").device.type == "mps"
    assert_close(look_up(), expected)
    with torch.inference_mode():
        look_up()
    torch.set_default_dtype(torch.float64)
    try:
        assert_close(look_up(), expected.double(), rtol=0, atol=1e-7)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        SinusoidalEncoding.forward(encoding, below(torch.arange(200), 200))
    assert not encoding.table.rows.is_inference()


def test_copies_and_pickles_of_a_model_leave_the_table_behind():
    model = build_model(tiny_config(kind="decoder_only")).eval()
    tokens = torch.tensor([[4, 5, 6]])
    expected = model(tokens)
    names = set(model.state_dict())
    assert model.decoder.embedding.positions.table.rows is not None
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.decoder.embedding.positions.table.rows is None
        assert set(twin.state_dict()) == names
        assert_close(twin(tokens), expected)
    assert model.bfloat16()(tokens).dtype == torch.bfloat16


def test_a_decode_step_looks_up_what_the_whole_sequence_has():
    model = build_model(tiny_config(kind="decoder_only")).eval()
    encoding = model.decoder.embedding.positions
    _, state = model.prefill(torch.tensor([[4, 5], [6, 0]]), max_length=70)
    with patch.object(encoding, "waves", wraps=encoding.waves) as waves:
        for _ in range(70):
            model.step(torch.tensor([4, 4]), state)
    assert waves.call_count == 1  # the table has grown beyond its first size
    assert sequence_positions(torch.zeros(2, 5, dtype=torch.int64)).limit == 5


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
