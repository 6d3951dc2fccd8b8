"""The settings: one tree of frozen dataclasses whose defaults are the paper's base model.

YAML files and the command line fill this tree (`settings/files.py`); a run's folder keeps it, resolved, as
`config.yaml`. The text under a field is its `--help`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from transformer.requirements import require, require_choice, require_device, require_positive, require_share

Kind = Literal["encoder_decoder", "decoder_only", "encoder_only"]
Precision = Literal["auto", "float32", "bfloat16"]

TaskName = Literal[
    "translation", "language_model", "masked_language_model", "classification", "sentence_embedding"
]

TASKS_OF_KIND: dict[str, tuple[TaskName, ...]] = {
    "encoder_decoder": ("translation",),
    "decoder_only": ("language_model",),
    "encoder_only": ("masked_language_model", "classification", "sentence_embedding"),
}
"""What each kind of model can be trained to do; the first is its default."""


@dataclass(frozen=True)
class ModelConfig:
    """The model of §3; the defaults are the base column of Table 3."""

    kind: Kind = "encoder_decoder"
    """Which of the three variants."""
    vocab_size: int = 37_000
    """Entries of the vocabulary; training replaces it by the size of the tokenizer."""
    d_model: int = 512
    """Width of every sub-layer and embedding."""
    num_heads: int = 8
    """Attention heads, h in the paper."""
    d_ff: int = 2048
    """Inner width of the feed-forward network."""
    num_layers: int = 6
    """Layers of each stack, N in the paper."""
    d_k: int | None = None
    """Width of a head's queries and keys; null: d_model / num_heads."""
    d_v: int | None = None
    """Width of a head's values; null: d_model / num_heads."""
    dropout: float = 0.1
    """Dropout on each sub-layer's output and on embedding plus position (§5.4)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights; the paper mentions none."""
    activation_dropout: float = 0.0
    """Dropout inside the feed-forward network; the paper mentions none."""
    norm: Literal["post", "pre"] = "post"
    """LayerNorm after each residual sum (the paper) or before each sub-layer."""
    final_norm: bool = True
    """Whether a pre-norm stack ends in a LayerNorm; a post-norm one ends in its last layer's."""
    norm_epsilon: float = 1e-6
    """What LayerNorm adds to the variance, so that it never divides by 0."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """Non-linearity of the feed-forward network."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """How positions are encoded (§3.5; learned is row E of Table 3)."""
    attention_bias: bool = False
    """Whether the attention projections add a bias; the paper writes matrices only."""
    output_bias: bool = False
    """Whether the projection to the vocabulary adds a bias."""
    tie_embeddings: bool = True
    """One matrix for source, target and the projection to the vocabulary (§3.4)."""
    max_positions: int = 1024
    """Longest sequence: the size of a learned encoding, and the cap on a source line and a translation."""
    pad_id: int = 0
    """Token that fills a batch's short rows."""
    bos_id: int = 1
    """Token that starts the decoder's input."""
    eos_id: int = 2
    """Token that ends a sentence."""
    unk_id: int = 3
    """Token for what the vocabulary lacks."""

    def __post_init__(self) -> None:
        require_choice("model.kind", self.kind, ("encoder_decoder", "decoder_only", "encoder_only"))
        require_choice("model.norm", self.norm, ("post", "pre"))
        require_choice("model.activation", self.activation, ("relu", "gelu", "silu"))
        require_choice("model.positions", self.positions, ("sinusoidal", "learned"))
        require_positive(
            self,
            "model",
            *("vocab_size", "d_model", "num_heads", "d_ff", "num_layers", "norm_epsilon", "max_positions"),
        )
        require_share(self, "model", "dropout", "attention_dropout", "activation_dropout")
        if self.d_k is None or self.d_v is None:
            require(
                self.d_model % self.num_heads == 0,
                f"model.d_model {self.d_model} is not a multiple of model.num_heads {self.num_heads}; "
                "change one of them, or set model.d_k and model.d_v",
            )
        for name in ("d_k", "d_v"):
            value = getattr(self, name)
            require(value is None or value > 0, f"model.{name} is {value}; it must be null or greater than 0")
        require(
            self.positions != "sinusoidal" or self.d_model % 2 == 0,
            f"model.d_model is {self.d_model}; sinusoidal positions need an even width",
        )
        ids = (self.pad_id, self.bos_id, self.eos_id, self.unk_id)
        require(
            len(set(ids)) == 4 and all(0 <= number < self.vocab_size for number in ids),
            f"model.pad_id, bos_id, eos_id, unk_id are {ids}; they must differ and lie in "
            f"0 … {self.vocab_size - 1} (model.vocab_size {self.vocab_size})",
        )

    @property
    def key_width(self) -> int:
        """d_k of one head."""
        return self.d_k or self.d_model // self.num_heads

    @property
    def value_width(self) -> int:
        """d_v of one head."""
        return self.d_v or self.d_model // self.num_heads


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it becomes tokens (§5.1).

    A parallel text is named by a path without its language ending (`corpus/train` for `corpus/train.en` and
    `corpus/train.de`, also `.gz` and `.xz`), a json, jsonl, csv or parquet file, a Hub id with its split
    (`wmt/wmt14:de-en:train`), or `toyland:SPLIT`. Any of them may end in `[:N]`: its first N pairs. The text
    of a language model is a plain file, and may end in a slice of its characters, `[:90%]` or `[90%:]`. So
    are the sentences of a masked language model and of a classifier, and their slices count lines.
    """

    train: str = "toyland:train"
    """Text to train on."""
    valid: str | None = "toyland:valid"
    """Text to validate on while training; null: none."""
    test: str | None = "toyland:test"
    """Text that `transformer evaluate` takes when none is named."""
    source: str = "en"
    """Language, or column, to translate from."""
    target: str = "de"
    """Language, or column, to translate into."""
    tokenizer: Literal["sentencepiece", "characters"] = "sentencepiece"
    """SentencePiece BPE with byte fallback, shared by both languages, or, for language models, single
    characters; made from the training text."""
    vocab_size: int = 37_000
    """Entries of the vocabulary that SentencePiece is trained to."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's normalisation rule; identity leaves every character as it is."""
    max_tokens: int = 256
    """Longest side of a training pair, EOS included; longer pairs are dropped and counted."""
    context: int = 256
    """Tokens of a block of a language model's text."""
    label_format: Literal["tab", "colon"] | None = None
    """Where each line of a file of sentences has its label: `SENTENCE<TAB>LABEL`, `LABEL:DETAIL SENTENCE`
    (the detail is not used); null: it has none."""
    classes: str | None = None
    """Labels that a classifier tells apart, with commas between; null: those of the training text."""

    def __post_init__(self) -> None:
        require_choice("data.tokenizer", self.tokenizer, ("sentencepiece", "characters"))
        rules = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity")
        require_choice("data.normalization", self.normalization, rules)
        require_positive(self, "data", "vocab_size", "max_tokens", "context")
        require_choice("data.label_format", self.label_format or "null", ("tab", "colon", "null"))


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
    """Run whose encoder and tokenizer an encoder-only model starts from; null: random values."""
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
    compile: bool = False
    """Whether the model runs through torch.compile (needs a C++ compiler on the CPU)."""
    log_every: int = 100
    """Updates between lines of the log."""
    valid_every: int = 1000
    """Updates between validations."""
    valid_sample: int = 200
    """Validation sentences that are translated for exact match and BLEU; 0: only the loss is computed."""
    save_every: int = 1000
    """Updates between checkpoints; the last update is always saved."""
    keep: int = 5
    """Newest checkpoints that are kept; the best one is kept as well."""

    def __post_init__(self) -> None:
        require_positive(
            self,
            "training",
            *("max_steps", "warmup_steps", "rate_scale", "tokens_per_batch", "accumulate", "adam_epsilon"),
            *("temperature", "log_every", "valid_every", "save_every", "keep"),
        )
        require_share(self, "training", "label_smoothing", "adam_beta1", "adam_beta2")
        require(
            0 <= self.cooldown <= 1, f"training.cooldown is {self.cooldown}; it is a share between 0 and 1"
        )
        for name in ("weight_decay", "valid_sample"):
            value = getattr(self, name)
            require(value >= 0, f"training.{name} is {value}; it must be 0 or more")
        require(
            self.max_norm is None or self.max_norm > 0,
            f"training.max_norm is {self.max_norm}; it must be null or greater than 0",
        )


@dataclass(frozen=True)
class DecodingConfig:
    """How a trained model translates (§6.1)."""

    beam_size: int = 4
    """Hypotheses that the search keeps alive; 1 is greedy search."""
    alpha: float = 0.6
    """Exponent of the length penalty."""
    max_extra: int = 50
    """A translation has at most this many tokens more than its source."""
    batch_tokens: int = 4096
    """Source tokens that are translated together, padding included, times the beam."""

    def __post_init__(self) -> None:
        require_positive(self, "decoding", "beam_size", "max_extra", "batch_tokens")
        require(self.alpha >= 0, f"decoding.alpha is {self.alpha}; it must be 0 or more")


@dataclass(frozen=True)
class Settings:
    """Everything a run is made from."""

    output: str = "runs/transformer"
    """The run's folder."""
    seed: int = 1
    """Seed of the initial parameters, of dropout and of the order of the batches."""
    device: str = "auto"
    """auto (a CUDA GPU if there is one), cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic of the matrix products; auto: bfloat16 where the hardware is fast at it."""
    task: TaskName | None = None
    """What the model is trained to do; null: translation, language_model or masked_language_model, by
    model.kind. An encoder_only model can also be trained for classification and sentence_embedding."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        require(self.seed >= 0, f"seed is {self.seed}; it must be 0 or more")
        require_device(self.device)
        tasks = TASKS_OF_KIND[self.model.kind]
        require_choice(f"model.kind is {self.model.kind}, and task", self.trained_task, tasks)
        require(
            self.training.start_from is None or self.model.kind == "encoder_only",
            f"training.start_from is for model.kind encoder_only, not {self.model.kind}",
        )
        require(
            self.data.max_tokens <= self.model.max_positions,
            f"data.max_tokens {self.data.max_tokens} is more than model.max_positions "
            f"{self.model.max_positions}; lower the first or raise the second",
        )

    @property
    def trained_task(self) -> TaskName:
        """`task`, or the one that goes without saying."""
        return self.task or TASKS_OF_KIND[self.model.kind][0]


def setting_names(settings: Any = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted name of every leaf of the tree, in order."""
    for item in fields(settings):
        if isinstance(item.default_factory, type):
            yield from setting_names(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name
