"""The updates (§5.2–5.4)."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import require, require_choices, require_positive, require_share

MetricName = Literal[
    "loss", "perplexity", "bits_per_byte", "bleu", "exact_match", "accuracy", "p@1", "p@1_reversed"
]
LOWER_IS_BETTER = frozenset(("loss", "perplexity", "bits_per_byte"))


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained (§5.2–5.4)."""

    max_steps: int = 100_000
    """Updates of the parameters."""
    warmup_steps: int = 4000
    """Updates over which the rate rises (equation 3)."""
    rate_scale: float = 1.0
    """Factor on the rate of equation 3."""
    cooldown: float = 0.0
    """Share of the updates, at the end, over which the rate falls linearly to 0; the paper has none."""
    label_smoothing: float = 0.1
    """Share of the target's mass that is spread evenly over the vocabulary (§5.4)."""
    temperature: float = 0.05
    """What cosines are divided by where sentence embeddings are trained; lower is stricter."""
    start_from: str | None = None
    """Run whose weights and tokenizer training starts from: all of them where the task is the same, else the
    encoder; null: random values."""
    tokens_per_batch: int = 25_000
    """Most target tokens, and most source tokens, of a batch, padding included."""
    accumulate: int = 1
    """Batches whose gradients are summed into one update."""
    adam_beta1: float = 0.9
    """Adam's decay of the mean gradient."""
    adam_beta2: float = 0.98
    """Adam's decay of the mean squared gradient."""
    adam_epsilon: float = 1e-9
    """Adam's ε."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); the paper has none."""
    max_norm: float | None = None
    """Gradients are scaled down to this norm; null: never, the norm is only logged."""
    max_skipped: int = 5
    """Updates in a row that are skipped for a loss or gradient that is not finite, before training stops."""
    compile: bool = False
    """Whether the model runs through torch.compile (needs a C++ compiler on the CPU)."""
    log_every: int = 100
    """Updates between lines of the log."""
    valid_every: int = 1000
    """Updates between validations."""
    valid_sample: int = 200
    """Validation sentences that are translated for exact match and BLEU; 0: only the loss is computed."""
    best_metric: MetricName = "loss"
    """Validation figure by which the best checkpoint is chosen."""
    patience: int | None = None
    """Validations without a better `best_metric` after which training stops early; null: it does not."""
    save_every: int = 1000
    """Updates between checkpoints; the last update is always saved."""
    save_minutes: float | None = None
    """Minutes between further checkpoints, 10 in the paper; null: only `save_every` counts."""
    keep: int = 5
    """Newest checkpoints that are kept; the best one is kept as well."""
    tensorboard: bool = False
    """Whether the run's folder gets files for TensorBoard beside log.jsonl (needs the extra tensorboard)."""
    timeout: float = 600.0
    """Seconds that one of several processes waits for the others before it gives up; while one of them reads
    and tokenizes the text, the others wait as long as it takes."""

    def __post_init__(self) -> None:
        require_positive(
            self,
            "training",
            *("max_steps", "warmup_steps", "rate_scale", "tokens_per_batch", "accumulate", "adam_epsilon"),
            *("temperature", "max_skipped", "log_every", "valid_every", "save_every", "keep", "timeout"),
        )
        require_share(self, "training", "label_smoothing", "adam_beta1", "adam_beta2")
        require(
            0 <= self.cooldown <= 1, f"training.cooldown is {self.cooldown}; it is a share between 0 and 1"
        )
        for name in ("weight_decay", "valid_sample"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name} is {value}; it must be 0 or more")
        require_choices(self, "training")
        require(self.timeout <= 1e6, f"training.timeout is {self.timeout}; it must be at most a million")
        for name in ("max_norm", "patience", "save_minutes"):
            value = getattr(self, name)
            require(
                value is None or value > 0,
                f"training.{name} is {value}; it must be null or greater than 0",
            )
