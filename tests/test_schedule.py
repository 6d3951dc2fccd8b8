"""The learning rate compared with its formula."""

import pytest

from transformer.config import TrainingConfig
from transformer.training.schedule import cooldown_factor, inverse_sqrt_rate, learning_rate


@pytest.mark.parametrize("step", [1, 2, 1000, 3999, 4000, 4001, 16_000, 100_000])
def test_the_rate_is_equation_3(step):
    rising, falling = step / 4000**1.5, 1 / step**0.5
    assert inverse_sqrt_rate(step, 512, 4000) == pytest.approx(min(rising, falling) / 512**0.5, rel=1e-12)


def test_the_rate_rises_by_equal_steps_peaks_after_the_warmup_and_halves_in_four_times_as_long():
    rates = [inverse_sqrt_rate(step, 64, 100) for step in range(1, 401)]
    assert rates[9] == pytest.approx(10 * rates[0])
    assert max(range(400), key=rates.__getitem__) + 1 == 100
    assert rates[99] == pytest.approx(1 / (64 * 100) ** 0.5)
    assert rates[399] == pytest.approx(rates[99] / 2)


def test_a_scale_is_a_factor():
    for step in (1, 7, 500):
        assert inverse_sqrt_rate(step, 512, 10, 3.0) == pytest.approx(3 * inverse_sqrt_rate(step, 512, 10))


@pytest.mark.parametrize("step", [0, -1])
def test_updates_count_from_1(step):
    with pytest.raises(ValueError, match=f"step is {step}; it counts from 1"):
        inverse_sqrt_rate(step, 512, 4000)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_the_cooldown_falls_by_equal_steps_to_0_just_after_the_last_update(share):
    factors = [cooldown_factor(step, 200, share) for step in range(1, 202)]
    falling = int(share * 200)
    assert factors[: 200 - falling] == [1.0] * (200 - falling)
    for left in range(falling):
        assert factors[200 - left - 1] == pytest.approx((left + 1) / falling)
    assert factors[200] == (0 if share else 1)


def test_the_rate_of_an_update_is_the_equation_scaled_and_cooled_down():
    settings = TrainingConfig(max_steps=100, warmup_steps=20, rate_scale=2.0, cooldown=0.1)
    assert learning_rate(10, 64, settings) == inverse_sqrt_rate(10, 64, 20, 2.0)
    assert learning_rate(100, 64, settings) == pytest.approx(0.1 * inverse_sqrt_rate(100, 64, 20, 2.0))
