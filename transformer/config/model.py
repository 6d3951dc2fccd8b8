"""The model of §3 in numbers and names."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import require, require_choices, require_positive, require_share

Kind = Literal["encoder_decoder", "decoder_only", "encoder_only"]


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
    residual_gain: float = 1.0
    """Factor on the initial W^O and W_2; 0: every sub-layer adds nothing to the residual sum at first."""
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
        require_choices(self, "model")
        require_positive(
            self,
            "model",
            *("vocab_size", "d_model", "num_heads", "d_ff", "num_layers", "norm_epsilon", "max_positions"),
        )
        require_share(self, "model", "dropout", "attention_dropout", "activation_dropout")
        require(self.residual_gain >= 0, f"model.residual_gain is {self.residual_gain}; it must be 0 or more")
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

    @property
    def num_weights(self) -> int:
        """Numbers in the matrices of such a model, a tied one once: how large it is before it is built."""
        attention = 2 * self.d_model * self.num_heads * (self.key_width + self.value_width)
        feed_forward = 2 * self.d_model * self.d_ff
        has_both = self.kind == "encoder_decoder"
        layer = (3 * attention + 2 * feed_forward) if has_both else (attention + feed_forward)
        embeddings = {"encoder_decoder": 3, "decoder_only": 2, "encoder_only": 1}[self.kind]
        rows = self.vocab_size * (1 if self.tie_embeddings else embeddings)
        if self.positions == "learned":
            rows += self.max_positions * (2 if has_both else 1)
        return self.num_layers * layer + rows * self.d_model
