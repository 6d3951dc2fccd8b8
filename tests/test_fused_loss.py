"""Our cross-entropy equals torch's in every use; the variant that overwrites the logits works only once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import PAD, assert_close, random_rows, right_padded, tiny_model
from torch import nn
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from transformer.config import Settings
from transformer.data.batches import Batch
from transformer.kernels import loss as fused_loss
from transformer.kernels.loss import GradientScale, overwriting_cross_entropy, scaling_gradients
from transformer.tasks.language_model import LanguageModelTask
from transformer.tasks.masked_language_model import MaskedLanguageModelTask
from transformer.tasks.translation import TranslationLoss, TranslationTask
from transformer.training.objectives import smoothed_cross_entropy

V, WIDTH = 11, 6
LABELS = {
    "ragged": torch.tensor([[5, 6, PAD, PAD], [7, 8, 9, PAD]]),
    "whole": torch.tensor([[5, 6, 1, 10], [7, 8, 9, 3]]),
    "pads alone": torch.full((2, 4), PAD),
}
CUT = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def reference(logits, labels, smoothing, pad_id=PAD):
    return F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=pad_id,
        label_smoothing=smoothing,
        reduction="sum",
    )


def plain(logits, labels=LABELS["ragged"], smoothing=0.1, pad_id=PAD):
    return smoothed_cross_entropy(logits, labels, label_smoothing=smoothing, pad_id=pad_id)


def overwriting(logits, labels=LABELS["ragged"], smoothing=0.1, pad_id=PAD):
    return overwriting_cross_entropy(logits, labels, label_smoothing=smoothing, pad_id=pad_id)


@pytest.fixture
def layer():
    return nn.Linear(WIDTH, V).double()


@pytest.fixture
def hidden():
    return torch.randn(2, 4, WIDTH, dtype=torch.float64, requires_grad=True)


def gradients(loss, *tensors, **options):
    return torch.autograd.grad(loss, tensors, **options)


# The plain loss


@CUT
@SMOOTHING
def test_it_is_torchs_in_value_and_gradient_and_leaves_the_logits_alone(labels, smoothing):
    logits = torch.randn(2, 4, V, dtype=torch.float64, requires_grad=True)  # a leaf
    before = logits.detach().clone()
    found, expected = plain(logits, labels, smoothing), reference(logits, labels, smoothing)
    assert_close(found, expected, **EXACT)  # in float64
    assert_close(gradients(found, logits), gradients(expected, logits), **EXACT)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_computed_in_float32_at_least(dtype):
    logits = torch.randn(2, 4, V).to(dtype)
    found = plain(logits)
    assert found.dtype == torch.float32
    assert_close(found, reference(logits.float(), LABELS["ragged"], 0.1))


def test_a_second_backward_pass_gives_the_same_gradient(layer, hidden):
    loss = plain(layer(hidden))
    first = gradients(loss, hidden, layer.weight, retain_graph=True)
    assert_close(gradients(loss, hidden, layer.weight), first, **EXACT)


def test_two_losses_of_the_same_logits_add(layer, hidden):
    logits, whole = layer(hidden), LABELS["whole"]
    both = plain(logits) + plain(logits, whole, 0.0) + logits.square().sum()
    expected = reference(logits, LABELS["ragged"], 0.1) + reference(logits, whole, 0.0)
    expected = expected + logits.square().sum()
    assert_close(
        gradients(both, hidden, retain_graph=True), gradients(expected, hidden, retain_graph=True), **EXACT
    )


def test_it_can_be_differentiated_twice(layer, hidden):
    assert torch.autograd.gradgradcheck(lambda x: plain(layer(x)), hidden)


def test_functional_transforms_see_through_it():
    logits, labels = torch.randn(3, 2, 4, V, requires_grad=True), torch.stack(list(LABELS.values()))
    each = [plain(*pair) for pair in zip(logits, labels, strict=True)]
    assert_close(torch.func.vmap(plain)(logits, labels), torch.stack(each))
    found = torch.func.vmap(torch.func.grad(plain))(logits.detach(), labels)
    assert_close((found,), gradients(sum(each), logits))


def test_an_objective_is_plain_unless_told_otherwise():
    model = tiny_model()
    rows = random_rows(4, 7, first=1)
    batch = Batch(right_padded(random_rows(3, 5)), right_padded(rows), np.array([1, 2]), 9)
    loss = TranslationLoss(0.1)(model, batch).total
    weights = list(model.parameters())
    first = gradients(loss, *weights, retain_graph=True)
    assert_close(gradients(loss, *weights), first)


# The loss that overwrites the logits


@CUT
@SMOOTHING
def test_in_chunks_of_any_size_it_equals_the_plain_one(monkeypatch, layer, hidden, labels, smoothing):
    everything = (hidden, layer.weight, layer.bias)
    expected = plain(layer(hidden), labels, smoothing)
    slopes = gradients(3 * expected, *everything)
    for elements in (1, 3 * V, 2**20):
        monkeypatch.setitem(fused_loss.CHUNK_ELEMENTS, "cpu", elements)
        found = overwriting(layer(hidden), labels, smoothing)
        assert_close(found, expected, **EXACT)
        assert_close(gradients(3 * found, *everything), slopes, **EXACT)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_in_lower_precision_it_is_close_to_the_plain_one(layer, hidden, dtype, error):
    layer.to(dtype)
    found, expected = (loss(layer(hidden.to(dtype))) for loss in (overwriting, plain))
    assert found.dtype == torch.float32
    assert_close(found, expected)
    slopes = gradients(found, layer.weight), gradients(expected, layer.weight)
    torch.testing.assert_close(*slopes, rtol=error, atol=error)


@pytest.mark.parametrize("loss", [plain, overwriting])
def test_a_pad_need_not_be_a_class_nor_every_class_possible(loss):
    labels = LABELS["ragged"]
    logits = torch.randn(2, 4, V)
    expected = loss(logits, labels)
    assert_close(loss(logits, labels.masked_fill(labels == PAD, -100), pad_id=-100), expected)
    logits[:, :, 2] = -torch.inf  # a class that is never the label
    assert_close(loss(logits, labels, 0.0), reference(logits, labels, 0.0))
    assert loss(logits, labels, 0.1) == torch.inf


def test_it_overwrites_what_a_linear_layer_made_and_only_for_a_gradient(layer, hidden):
    with torch.no_grad():
        logits = layer(hidden)
        before = logits.clone()
        overwriting(logits)
        assert torch.equal(logits, before)
    logits = layer(hidden)
    (slope,) = gradients(plain(logits), logits)
    overwriting(logits).backward()
    assert_close(logits, slope, **EXACT)


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_a_loss_computed_without_gradients_leaves_logits_that_have_them_alone(
    layer, hidden, without_gradients
):
    logits = layer(hidden)
    before = logits.detach().clone()
    with without_gradients():
        figure = overwriting(logits)
    assert torch.equal(logits, before)
    assert not figure.requires_grad
    loss = overwriting(logits)
    assert_close(loss, figure, **EXACT)
    assert_close(gradients(loss, hidden), gradients(plain(layer(hidden)), hidden), **EXACT)


class Operators(TorchDispatchMode):
    """Collects the names of all operators."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


USES = {
    "alone": lambda loss, logits: loss(logits),
    "twice": lambda loss, logits: loss(logits * 1) + loss(logits * 2),
    "weighed": lambda loss, logits: 0.3 * loss(logits),
    "with another": lambda loss, logits: loss(logits * 1) + logits.square().sum(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_scale_that_is_known_beforehand_is_part_of_the_gradient(layer, hidden, use, dtype):
    layer, hidden = layer.to(dtype), hidden.detach().to(dtype).requires_grad_()
    expected = gradients(use(plain, layer(hidden)) / 7, hidden, layer.weight)
    scale = GradientScale(1 / 7, GradScaler(enabled=False))
    with scaling_gradients(scale):
        total = use(overwriting, layer(hidden))
    with Operators() as operators:
        found = gradients(total, hidden, layer.weight, grad_outputs=scale.like(total))
    assert_close(found, expected, **(EXACT if dtype == torch.float64 else {}))
    assert ("mul_" in operators.names) == (use is USES["weighed"])


def test_a_scale_is_applied_even_if_the_backward_pass_begins_with_another(layer, hidden):
    (expected,) = gradients(plain(layer(hidden)), hidden)
    with scaling_gradients(GradientScale(1 / 7, GradScaler(enabled=False))):
        total = overwriting(layer(hidden))
    assert_close(gradients(total, hidden), (expected,), **EXACT)
    assert_close(gradients(overwriting(layer(hidden)), hidden), (expected,), **EXACT)  # after the block


def test_a_scale_in_float16_keeps_gradients_from_underflowing():
    layer, hidden = nn.Linear(WIDTH, V).half(), torch.randn(2, 4, WIDTH).half()
    scaler = GradScaler("cpu", init_scale=2.0**10)
    scale = GradientScale(1e-6, scaler)
    with scaling_gradients(scale):
        total = overwriting(layer(hidden))
    total.backward(scale.like(total))
    (expected,) = gradients(plain(layer.float()(hidden.float())) * (1e-6 * 2**10), layer.weight)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0.02, atol=1e-5)


def test_a_second_backward_pass_is_refused(layer, hidden):
    loss = overwriting(layer(hidden))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="for a second one through a retained graph use smoothed_cross"):
        loss.backward()


ENDINGS = {
    "as it is": lambda x: x,
    "log-probabilities": lambda x: x.log_softmax(dim=-1),
    "tanh": torch.tanh,
    "capped": lambda x: 3 * torch.tanh(x / 3),
    "a view of tanh": lambda x: torch.tanh(x).view(4, 2, V).reshape(2, 4, V),
    "turned": lambda x: torch.tanh(x.transpose(0, 1)).transpose(0, 1),
    "one row for all": lambda x: x[:1].expand(2, -1, -1),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_model_may_end_in_any_operation(layer, hidden, ending):
    found, expected = (loss(ending(layer(hidden))) for loss in (overwriting, plain))
    assert_close(gradients(found, hidden), gradients(expected, hidden), **EXACT)


def test_a_leaf_is_not_overwritten():
    logits = torch.randn(2, 4, V, requires_grad=True)
    before = logits.detach().clone()
    overwriting(logits).backward()
    assert torch.equal(logits, before)
    assert_close((logits.grad,), gradients(plain(logits), logits))


@pytest.mark.parametrize("task", [TranslationTask, LanguageModelTask, MaskedLanguageModelTask])
def test_the_loop_gets_the_one_that_overwrites(task):
    assert task.objective(Settings()).cross_entropy is overwriting_cross_entropy
