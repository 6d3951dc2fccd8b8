"""Settings of the training (§5.2–5.4)."""

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
    """Total number of updates."""
    warmup_steps: int = 4000
    """Number of updates over which the learning rate rises (equation 3)."""
    rate_scale: float = 1.0
    """Factor for the learning rate of equation 3."""
    cooldown: float = 0.0
    """Share of the updates, at the end, over which the learning rate falls linearly to 0; 0 in the paper."""
    label_smoothing: float = 0.1
    """Share of the target's probability that is spread evenly over the vocabulary or the classes (§5.4)."""
    temperature: float = 0.05
    """Divisor of the cosines in the loss of sentence embeddings; a lower one penalises near misses more."""
    start_from: str | None = None
    """Run whose tokenizer and weights training starts from: all weights if the task is the same, else only
    the encoder's; null: random weights and a new tokenizer."""
    tokens_per_batch: int = 25_000
    """Maximum number of target tokens, and of source tokens, in a batch, padding included."""
    accumulate: int = 1
    """Number of batches per update (per process)."""
    adam_beta1: float = 0.9
    """Adam's decay rate for the mean gradient."""
    adam_beta2: float = 0.98
    """Adam's decay rate for the mean squared gradient."""
    adam_epsilon: float = 1e-9
    """Adam's ε."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW); 0 in the paper."""
    max_norm: float | None = None
    """Maximum gradient norm, for clipping; null: no clipping, the norm is only logged."""
    max_skipped: int = 5
    """Training stops after more than this many skipped updates (non-finite loss or gradient) in a row."""
    compile: bool = False
    """Whether the model runs through torch.compile (needs a C++ compiler on the CPU)."""
    log_every: int = 100
    """Updates between log entries."""
    valid_every: int = 1000
    """Updates between validations."""
    valid_sample: int = 200
    """Number of validation sentences to translate for exact match and BLEU; 0: only compute the loss."""
    best_metric: MetricName = "loss"
    """Validation metric by which the best checkpoint is chosen."""
    patience: int | None = None
    """Validations without a better best_metric after which training stops early; null: no early stopping."""
    save_every: int = 1000
    """Updates between checkpoints; the last update is always saved."""
    save_minutes: float | None = None
    """Minutes between additional checkpoints, 10 in the paper; null: only save_every is used."""
    keep: int = 5
    """Number of newest checkpoints to keep; the best one is always kept."""
    tensorboard: bool = False
    """Whether to write TensorBoard files in addition to log.jsonl (needs the extra tensorboard)."""
    timeout: float = 600.0
    """Seconds that one of several processes waits for the others before it fails; there is no timeout while
    one of them reads and tokenizes the text."""

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
