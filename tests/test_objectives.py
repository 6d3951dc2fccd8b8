"""The loss equals its formula, and gradients do not depend on how an update is split into batches."""

import numpy as np
import pytest
import torch
from helpers import PAD, assert_close, random_rows, right_padded, tiny_model

from transformer.config import TrainingConfig
from transformer.data.batches import Batch
from transformer.tasks.translation import TranslationLoss
from transformer.training.loop import accumulate_gradients, clip_gradients
from transformer.training.objectives import smoothed_cross_entropy
from transformer.training.optimizer import make_optimizers


def make_batch(pairs) -> Batch:
    sources, targets = zip(*pairs, strict=True)
    return Batch(
        right_padded(sources),
        right_padded(targets),
        np.arange(1, len(pairs) + 1),
        sum(len(target) - 1 for target in targets),
    )


@pytest.fixture
def pairs():
    sources = random_rows(3, 7, 4, 9, 2, 5)
    targets = random_rows(4, 8, 3, 10, 2, 6, first=1)
    return list(zip(sources, targets, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_the_loss_is_the_papers_formula_with_the_mass_on_every_class(smoothing):
    logits = torch.randn(3, 5, 11, dtype=torch.float64)
    labels = torch.randint(1, 11, (3, 5))
    labels[0, 3:] = PAD
    log_probs = logits.log_softmax(-1)
    expected = 0.0
    for row in range(3):
        for place in range(5):
            if labels[row, place] != PAD:
                target = torch.full((11,), smoothing / 11, dtype=torch.float64)
                target[labels[row, place]] += 1 - smoothing
                expected -= float(target @ log_probs[row, place])
    loss = smoothed_cross_entropy(logits.float(), labels, label_smoothing=smoothing, pad_id=PAD)
    assert loss.detach().item() == pytest.approx(expected, rel=1e-6)


def test_pads_give_no_loss_and_no_gradient():
    logits = torch.randn(2, 4, 11, requires_grad=True)
    labels = torch.tensor([[5, 6, PAD, PAD], [7, 8, 9, PAD]])
    smoothed_cross_entropy(logits, labels, label_smoothing=0.1, pad_id=PAD).backward()
    is_pad = labels == PAD
    assert logits.grad is not None
    assert not logits.grad[is_pad].any()
    assert logits.grad[~is_pad].any(dim=-1).all()


@pytest.mark.parametrize(("vocabulary", "floor"), [(9_712, 1.2431), (37_000, 1.3769)])
def test_the_least_loss_is_the_entropy_of_the_smoothed_target(vocabulary, floor):
    target = torch.full((vocabulary,), 0.1 / vocabulary)
    target[7] += 0.9
    assert float(-(target * target.log()).sum()) == pytest.approx(floor, abs=5e-5)
    logits, labels = target.log().double().view(1, 1, -1).requires_grad_(), torch.tensor([[7]])
    loss = smoothed_cross_entropy(logits, labels, label_smoothing=0.1, pad_id=PAD)
    assert loss.detach().item() == pytest.approx(floor, abs=5e-5)
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.abs().max() < 1e-6  # a minimum


@torch.no_grad()
def test_every_target_token_after_bos_is_predicted_once(pairs):
    model, batch = tiny_model(), make_batch(pairs)
    total = 0.0
    for source, target in pairs:
        log_probs = model(torch.tensor([source]), torch.tensor([target[:-1]])).log_softmax(-1)
        total -= sum(float(log_probs[0, place, token]) for place, token in enumerate(target[1:]))
    loss = TranslationLoss(0.0)(model, batch)
    assert loss.tokens == sum(len(target) - 1 for _, target in pairs)
    assert loss.total.item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("sizes", [[6], [1, 5], [3, 2, 1], [1] * 6])
def test_an_update_does_not_depend_on_how_it_is_cut_into_batches(pairs, sizes):
    model = tiny_model()
    whole = accumulate_gradients(TranslationLoss(0.1), model, [make_batch(pairs)])
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    ends = np.cumsum(sizes)
    parts = [make_batch(pairs[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    loss = accumulate_gradients(TranslationLoss(0.1), model, parts)
    assert loss.tokens == whole.tokens
    assert_close(loss.total, whole.total)
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, expected[name], atol=1e-6)


def test_without_weight_decay_the_optimizer_is_adam_with_the_papers_numbers():
    ours, reference = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    reference.load_state_dict(ours.state_dict())
    optimizers = [
        *make_optimizers(ours, TrainingConfig()),
        torch.optim.Adam(reference.parameters(), betas=(0.9, 0.98), eps=1e-9),
    ]
    for rate in (1e-3, 2e-3, 5e-4):
        inputs = torch.randn(4, 5)
        for model, optimizer in zip((ours, reference), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
    assert_close(ours.weight, reference.weight, rtol=1e-6, atol=1e-7)
    assert_close(ours.bias, reference.bias, rtol=1e-6, atol=1e-7)


def test_gradients_are_measured_and_only_clipped_when_asked(pairs):
    model = tiny_model()
    accumulate_gradients(TranslationLoss(0.1), model, [make_batch(pairs)])
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    expected = gradients.norm()
    assert_close(clip_gradients(model, None), expected)
    assert_close(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), gradients)
    assert_close(clip_gradients(model, 0.25), expected)
    clipped = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert_close(clipped, gradients * 0.25 / expected, rtol=1e-4)
