"""Dropout keeps the right share of elements, independently, and scales them so that the mean is unchanged."""

import pytest
import torch

from transformer.kernels.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 200_001  # not a multiple of four
    y = Dropout(p)(torch.ones(n, dtype=dtype))
    kept = y != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 4 * (p * (1 - p) / n) ** 0.5 + 2**-16
    torch.testing.assert_close(y[kept].unique(), torch.tensor([1 / (1 - p)]).to(dtype), rtol=1e-2, atol=0)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(400_000)) != 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8, 16):
        correlation = 4 * float((kept[distance:] * kept[:-distance]).mean())
        assert abs(correlation) < 4 / 400_000**0.5


def test_gradient_is_the_mask() -> None:
    x = torch.randn(64, 33, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, y)


def test_nothing_happens_in_evaluation_or_without_probability() -> None:
    x = torch.randn(8)
    assert Dropout(0.4).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_everything_is_dropped(p: float) -> None:
    assert torch.equal(Dropout(p)(torch.randn(1000)), torch.zeros(1000))


def test_the_seed_repeats() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first = Dropout(0.4)(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.4)(x), first)


def test_rows_of_vmap_are_dropped_independently_or_alike() -> None:
    x = torch.ones(2, 1000)
    alone, alike = (torch.vmap(Dropout(0.5), randomness=each)(x) for each in ("different", "same"))
    assert not torch.equal(alone[0], alone[1])
    assert torch.equal(alike[0], alike[1])
    unbatched = torch.vmap(lambda row: row + Dropout(0.5)(torch.ones(1000)), randomness="different")(x)
    assert not torch.equal(unbatched[0], unbatched[1])


def test_gradients_of_vmap_are_the_masks() -> None:
    def loss(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = Dropout(0.4)(x)
        return y.sum(), y

    x = torch.randn(4, 33)
    gradients, y = torch.vmap(torch.func.grad(loss, has_aux=True), randomness="different")(x)
    torch.testing.assert_close(gradients * x, y)


def test_in_place_the_input_is_the_output() -> None:
    x = torch.ones(1000)
    y = Dropout(0.4, inplace=True)(x)
    assert y is x
    assert 0 < int((x == 0).sum()) < 1000
