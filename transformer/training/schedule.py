"""The learning rate (§5.3)."""

from transformer.config import TrainingConfig


def inverse_sqrt_rate(step: int, d_model: int, warmup_steps: int, scale: float = 1.0) -> float:
    """Equation 3 times `scale`: d_model^-½ · min(step^-½, step · warmup^-1½); `step` counts from 1."""
    if step < 1:
        raise ValueError(f"step is {step}; it counts from 1")
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def cooldown_factor(step: int, max_steps: int, cooldown: float) -> float:
    """1, then falling linearly over the last `cooldown` share of the updates; 0 just after the last one."""
    falling = cooldown * max_steps
    return min(1.0, (max_steps + 1 - step) / falling) if falling >= 1 else 1.0


def learning_rate(step: int, d_model: int, settings: TrainingConfig) -> float:
    """The rate of update `step`, which counts from 1."""
    rate = inverse_sqrt_rate(step, d_model, settings.warmup_steps, settings.rate_scale)
    return rate * cooldown_factor(step, settings.max_steps, settings.cooldown)
