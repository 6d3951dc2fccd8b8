"""Settings of training (§5.2–5.4)."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import (
    require,
    require_choices,
    require_plain_numbers,
    require_positive,
    require_share,
)


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained (§5.2–5.4)."""

    max_steps: int = 100_000
    """Number of updates."""
    warmup_steps: int = 4000
    """Updates of the warm-up (equation 3).
    During the warm-up, the learning rate rises linearly."""
    schedule: Literal["inverse_sqrt", "cosine", "linear", "constant"] = "inverse_sqrt"
    """Learning rate after the warm-up.
    inverse_sqrt: as in equation 3; cosine, linear: down to 0 along a cosine or a line; constant: flat."""
    learning_rate: float | None = None
    """Highest rate; null: by equation 3.
    The learning rate reaches this value at the end of the warm-up."""
    rate_scale: float = 1.0
    """Factor for the rate of equation 3.
    This factor is ignored if learning_rate is set."""
    cooldown: float = 0.0
    """Final share of updates with falling rate.
    During this share of the updates, the learning rate falls linearly to 0. The paper has no such phase."""
    label_smoothing: float = 0.1
    """Probability spread over all tokens (§5.4).
    A classifier spreads it over all classes."""
    temperature: float = 0.05
    """Divisor of cosines (sentence embeddings).
    For the task sentence_embedding only. The lower the temperature, the more the loss depends on the most
    similar wrong pairs."""
    start_from: str | None = None
    """Run to start from; null: random weights.
    Training uses that run's tokenizer. If task and classes are the same, training starts from all of the
    run's weights. Otherwise the earlier run must have trained an encoder-only model, and only the weights of
    its encoder are used. In this case, the new model can be encoder-only or a translation model."""
    model_size: Literal["given", "by_text"] = "given"
    """Size of the model.
    given: from the settings of the model. by_text: model.d_model, num_heads, d_ff and num_layers are chosen
    by the number of tokens in the training text, source and target together: 64, 4, 256 and 2 below 100,000
    tokens; 128, 4, 512 and 3 below a million; 256, 4, 1024 and 3 above. The run's config.yaml records the
    chosen sizes, with model_size set to given."""
    tokens_per_batch: int = 25_000
    """Maximum tokens of a batch, per side.
    Source tokens and target tokens are limited separately, padding included."""
    accumulate: int = 1
    """Batches per update and process."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Parallel training.
    How several processes train one model. ddp: each holds the whole model; fsdp: each holds a part of every
    parameter, its gradient and its moments (docs/distributed.md). With one process there is no difference."""
    recompute: bool = False
    """Recompute layers to save memory.
    Only the input of each layer is kept for the backward pass, which then computes the layer again."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Optimizer.
    adam: as in the paper; muon: Muon for the matrices of the layers, Adam for all other parameters."""
    adam_beta1: float = 0.9
    """Decay rate of Adam's mean gradient."""
    adam_beta2: float = 0.98
    """Decay rate of Adam's squared gradient."""
    adam_epsilon: float = 1e-9
    """Adam's ε."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW).
    The paper uses no weight decay."""
    max_norm: float | None = None
    """Maximum gradient norm; null: no clipping.
    The gradient norm is always logged."""
    max_skipped: int = 5
    """Skipped updates in a row before stopping.
    An update is skipped if its loss or gradient is not finite. Training stops after more than this many
    skipped updates in a row."""
    compile: bool = False
    """Use torch.compile.
    On the CPU, torch.compile needs a C++ compiler."""
    log_every: int = 100
    """Updates between log entries."""
    valid_every: int = 1000
    """Updates between validations."""
    valid_sample: int = 200
    """Validation sentences to translate.
    The translations are needed for exact match and BLEU. With 0, these two metrics are not computed."""
    best_metric: str = "loss"
    """Metric that chooses the best checkpoint.
    It is one of the metrics that the task's validation computes, such as loss, bleu or accuracy."""
    patience: int | None = None
    """Stop after N validations without gain; null: never.
    Only consecutive validations that do not improve best_metric count."""
    save_every: int = 1000
    """Updates between checkpoints.
    The last update is always saved."""
    save_minutes: float | None = None
    """Minutes between extra checkpoints; null: none.
    The paper uses 10 minutes. Checkpoints are still written after every save_every updates."""
    keep: int = 5
    """Newest checkpoints to keep.
    The best checkpoint is always kept as well."""
    tensorboard: bool = False
    """Write TensorBoard files too.
    These files are written in addition to log.jsonl, and need the extra tensorboard."""
    timeout: float = 600.0
    """Seconds to wait for another process.
    A process that has waited this long fails. There is no timeout while a process reads or tokenizes text."""

    def __post_init__(self) -> None:
        require_plain_numbers(self, "training", unlimited=("max_norm", "save_minutes"))
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
        for name in ("learning_rate", "max_norm", "patience", "save_minutes"):
            value = getattr(self, name)
            require(
                value is None or value > 0,
                f"training.{name} is {value}; it must be null or greater than 0",
            )
