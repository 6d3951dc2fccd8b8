"""Settings of the model (§3)."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import (
    require,
    require_choices,
    require_plain_numbers,
    require_positive,
    require_share,
)

Kind = Literal["encoder_decoder", "decoder_only", "encoder_only"]
FIXED_BY_TOKENIZER = ("model.pad_id", "model.bos_id", "model.eos_id", "model.unk_id")
"""Settings that the tokenizer decides, so training refuses other values."""


@dataclass(frozen=True)
class ModelConfig:
    """The model of §3; the defaults are the base column of Table 3."""

    kind: Kind = "encoder_decoder"
    """Variant of the Transformer."""
    vocab_size: int = 37_000
    """Size of the vocabulary.
    Training sets it to the size of the tokenizer."""
    source_vocab_size: int | None = None
    """Size of the source vocabulary; null: vocab_size.
    Training sets it if there are two vocabularies (data.target_vocab_size)."""
    d_model: int = 512
    """Width of every sub-layer and embedding."""
    num_heads: int = 8
    """Attention heads, h in the paper."""
    d_ff: int = 2048
    """Inner width of the feed-forward network."""
    num_layers: int = 6
    """Layers of each stack, N in the paper."""
    num_decoder_layers: int | None = None
    """Layers of the decoder; null: num_layers.
    For an encoder_decoder model whose decoder is deeper or shallower than its encoder."""
    d_k: int | None = None
    """Width of queries and keys; null: d_model / num_heads.
    The width of one head's queries and keys."""
    d_v: int | None = None
    """Width of a head's values; null: d_model / num_heads."""
    dropout: float = 0.1
    """Dropout of sub-layers and embeddings.
    Applied to each sub-layer's output and to the sums of embeddings and positions (§5.4)."""
    attention_dropout: float = 0.0
    """Dropout on the attention weights.
    The paper does not mention this dropout."""
    activation_dropout: float = 0.0
    """Dropout inside the feed-forward network.
    The paper does not mention this dropout."""
    norm: Literal["post", "pre"] = "post"
    """Place of LayerNorm.
    post: after each residual connection, as in the paper; pre: before each sub-layer."""
    final_norm: bool = True
    """Pre-norm stacks end in a LayerNorm.
    A post-norm stack needs no final LayerNorm. Only configs/multi30k_embeddings.yaml sets final_norm to
    false."""
    norm_epsilon: float = 1e-6
    """LayerNorm's ε, added to the variance.
    Without ε, LayerNorm could divide by 0."""
    residual_gain: float = 1.0
    """Factor for the initial W^O and W_2.
    With 0, sub-layers initially add nothing to their inputs. Only configs/multi30k_embeddings.yaml changes
    residual_gain."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """Activation function.
    Applied between the two linear maps of the feed-forward network (§3.3)."""
    positions: Literal["sinusoidal", "tensor2tensor", "learned"] = "sinusoidal"
    """Positions.
    The positional encoding. sinusoidal: as in §3.5; tensor2tensor: the same, but with the wavelengths that
    the authors' code and Marian use; learned: as in row E of Table 3."""
    attention_bias: bool = False
    """Biases in the attention projections.
    The paper's equations have no such biases."""
    output_bias: bool = False
    """Bias of the vocabulary projection."""
    tie_embeddings: bool = True
    """Share embeddings and output matrix.
    The embeddings of source and target and the projection to the vocabulary then share one matrix (§3.4).
    With two vocabularies, only the target embedding and the projection share a matrix."""
    max_positions: int = 1024
    """Longest source or translation.
    The length is counted in tokens. A learned positional encoding has this many positions."""
    pad_id: int = 0
    """Token that pads the short rows of a batch."""
    bos_id: int = 1
    """Token that starts the decoder's input."""
    eos_id: int = 2
    """Token that ends a sentence."""
    unk_id: int = 3
    """Token that replaces text that the vocabulary lacks."""

    def __post_init__(self) -> None:
        require_plain_numbers(self, "model")
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
        for name in ("source_vocab_size", "num_decoder_layers", "d_k", "d_v"):
            value = getattr(self, name)
            require(value is None or value > 0, f"model.{name} is {value}; it must be null or greater than 0")
        for name in ("source_vocab_size", "num_decoder_layers"):
            require(
                getattr(self, name) is None or self.kind == "encoder_decoder",
                f"model.{name} is for model.kind encoder_decoder, not {self.kind}",
            )
        require(
            self.positions == "learned" or self.d_model % 2 == 0,
            f"model.d_model is {self.d_model}; sinusoidal positions need an even width",
        )
        ids = self.special_ids
        require(
            len(set(ids)) == 4 and all(0 <= number < self.vocab_size for number in ids),
            f"model.pad_id, bos_id, eos_id, unk_id are {ids}; they must differ and lie in "
            f"0 … {self.vocab_size - 1} (model.vocab_size {self.vocab_size})",
        )

    @property
    def special_ids(self) -> tuple[int, int, int, int]:
        """The ids of padding, begin of sentence, end of sentence and unknown text."""
        return self.pad_id, self.bos_id, self.eos_id, self.unk_id

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder."""
        return self.num_decoder_layers or self.num_layers

    @property
    def shares_vocabulary(self) -> bool:
        """Whether source and target have one vocabulary."""
        return self.source_vocab_size is None

    @property
    def source_size(self) -> int:
        """Size of the source vocabulary."""
        return self.source_vocab_size or self.vocab_size

    @property
    def key_width(self) -> int:
        """Width of a head's queries and keys."""
        return self.d_k or self.d_model // self.num_heads

    @property
    def value_width(self) -> int:
        """Width of a head's values."""
        return self.d_v or self.d_model // self.num_heads

    @property
    def num_weights(self) -> int:
        """The number of weights in the matrices of a model with these settings; a tied matrix counts once."""
        attention = 2 * self.d_model * self.num_heads * (self.key_width + self.value_width)
        feed_forward = 2 * self.d_model * self.d_ff
        layers = self.num_layers * (attention + feed_forward)
        matrices = 1 if self.tie_embeddings or self.kind == "encoder_only" else 2
        rows = matrices * self.vocab_size
        if self.positions == "learned":
            rows += self.max_positions
        if self.kind == "encoder_decoder":
            layers += self.decoder_layers * (2 * attention + feed_forward)
            rows += 0 if self.shares_vocabulary and self.tie_embeddings else self.source_size
            rows += self.max_positions if self.positions == "learned" else 0
        return layers + rows * self.d_model
