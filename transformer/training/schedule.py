"""The learning rate (§5.3)."""

import math
from collections.abc import Callable

from transformer.config import TrainingConfig


def inverse_sqrt_rate(step: int, d_model: int, warmup_steps: int, scale: float = 1.0) -> float:
    """Equation 3 times `scale`: d_model^-½ · min(step^-½, step · warmup^-1½); `step` counts from 1."""
    if step < 1:
        raise ValueError(f"step is {step}; it counts from 1")
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def cooldown_factor(step: int, max_steps: int, cooldown: float) -> float:
    """Return 1 or, in the last `cooldown` × `max_steps` updates, a factor that falls linearly towards 0."""
    falling = cooldown * max_steps
    return min(1.0, (max_steps + 1 - step) / falling) if falling >= 1 else 1.0


def warmed_up(decay: Callable[[float], float]) -> Callable[[int, TrainingConfig], float]:
    """Return a schedule that rises linearly during the warm-up and then follows `decay`.

    `decay` maps the progress after the warm-up, from 0 to 1, to the rate as a share of the peak rate.
    Therefore `decay(0)` must be 1.
    """

    def shape(step: int, training: TrainingConfig) -> float:
        warmup = training.warmup_steps
        share = (step - warmup) / max(1, training.max_steps + 1 - warmup)
        peak = warmup**-0.5  # the peak of equation 3 with d_model = 1
        return peak * (step / warmup if step < warmup else decay(share))

    return shape


SCHEDULES: dict[str, Callable[[int, TrainingConfig], float]] = {
    "inverse_sqrt": lambda step, training: inverse_sqrt_rate(step, 1, training.warmup_steps),
    "cosine": warmed_up(lambda share: (1 + math.cos(math.pi * share)) / 2),
    "linear": warmed_up(lambda share: 1 - share),
    "constant": warmed_up(lambda share: 1.0),  # noqa: ARG005
}
"""The choices of `training.schedule`. Each function returns the rate of an update, as if d_model were 1."""


def learning_rate(step: int, d_model: int, settings: TrainingConfig) -> float:
    """Return the learning rate of update `step`, which counts from 1.

    At the end of the warm-up, the rate is `training.learning_rate` or, if this setting is null, the rate of
    equation 3 times `training.rate_scale`.
    """
    peak = settings.learning_rate
    scale = settings.rate_scale * d_model**-0.5 if peak is None else peak * settings.warmup_steps**0.5
    rate = scale * SCHEDULES[settings.schedule](step, settings)
    return rate * cooldown_factor(step, settings.max_steps, settings.cooldown)
