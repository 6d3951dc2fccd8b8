"""What the paper leaves open, one variant per choice: how `silences.py` trains each, and nothing else.

A variant changes settings where the package has them, or else passes its own builder, task or schedule, which
are below. All other code is the package's. `transformer translate --run runs/silences/zero_start_1 --build
silence_variants:zero_start` works with `benchmarks` in PYTHONPATH.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.checkpoint.pretrained import Build
from transformer.config import ModelConfig, Settings
from transformer.data.batches import Batch
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.model.attention import MultiHeadAttention
from transformer.model.build import ModelBuilder, build_model, scale
from transformer.model.decoder import Decoder
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.layers import TokenEmbedding
from transformer.tasks.translation import TranslationLoss, TranslationTask
from transformer.training.objectives import Loss, at_least_float32
from transformer.training.schedule import learning_rate
from transformer.training.update_rule import Schedule

# Initialisation


class GlorotSeparate(ModelBuilder):
    """W^Q, W^K and W^V: Glorot's range for each alone, which is √2 times that for one matrix of all three."""

    def initialise(self, model: nn.Module) -> None:
        super().initialise(model)
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                for projection in (module.w_q, module.w_k, module.w_v):
                    scale(projection.weight, 2**0.5)


def glorot_separate(config: ModelConfig) -> nn.Module:
    return GlorotSeparate(config).build()


class UnitEmbeddings(ModelBuilder):
    """Embeddings, and the output tied to them, with standard deviation 1, as in torch's nn.Embedding."""

    def initialise(self, model: nn.Module) -> None:
        super().initialise(model)
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                scale(module.weight, self.config.d_model**0.5)


def unit_embeddings(config: ModelConfig) -> nn.Module:
    return UnitEmbeddings(config).build()


# Embeddings


class UnscaledEmbeddings(ModelBuilder):
    """Embeddings without the factor √d_model."""

    def token_embedding(self, embedding: nn.Embedding) -> TokenEmbedding:
        made = super().token_embedding(embedding)
        made.scale = 1.0
        return made


def unscaled_embeddings(config: ModelConfig) -> nn.Module:
    return UnscaledEmbeddings(config).build()


class ZeroStartEmbedding(TokenEmbedding):
    """A `TokenEmbedding` that reads BOS as the zero vector, to which the position is added as usual."""

    bos_id: int

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        embedded = self.embedding(tokens) * self.scale
        embedded = embedded.masked_fill((tokens == self.bos_id)[..., None], 0.0)
        return self.dropout(embedded + self.positions(positions).to(embedded.dtype))


class ZeroStart(ModelBuilder):
    """A decoder whose first input is a zero vector, as if the targets were shifted after the embedding."""

    def decoder(self, embedding: nn.Embedding, block: Callable[[], Any]) -> Decoder:
        made = super().decoder(embedding, block)
        made.embedding = ZeroStartEmbedding(embedding, self.positions(), self.config.dropout)
        made.embedding.bos_id = self.config.bos_id
        return made


def zero_start(config: ModelConfig) -> nn.Module:
    return ZeroStart(config).build()


class SourceWithoutEos(EncoderDecoder):
    """An `EncoderDecoder` that reads the EOS of each source as padding, in training and in the search."""

    def encode(self, src_tokens: Tensor) -> tuple[Tensor, Tensor]:
        is_last = src_tokens == self.eos_id
        is_last[:, 0] = False  # the only token of an empty source: attention needs one
        return super().encode(src_tokens.masked_fill(is_last, self.pad_id))


class WithoutSourceEos(ModelBuilder):
    """Sources that do not end in EOS."""

    def encoder_decoder(self) -> EncoderDecoder:
        made, config = super().encoder_decoder(), self.config
        ids = {"pad_id": config.pad_id, "bos_id": config.bos_id, "eos_id": config.eos_id}
        return SourceWithoutEos(made.encoder, made.decoder, made.output, **ids)


def no_source_eos(config: ModelConfig) -> nn.Module:
    return WithoutSourceEos(config).build()


# Loss


class SmoothingOffGold(TranslationTask):
    """Label smoothing that spreads ε over the V - 1 wrong tokens, so that the right one keeps exactly 1 - ε.

    torch's smoothing, 1 - ε' + ε'/V on the right token and ε'/V elsewhere, is the same with
    ε' = ε V / (V - 1).
    """

    @staticmethod
    def objective(settings: Settings) -> TranslationLoss:
        size = settings.model.vocab_size
        epsilon = settings.training.label_smoothing * size / (size - 1)
        return TranslationLoss(epsilon, cross_entropy=overwriting_cross_entropy)


@dataclass(frozen=True)
class SentenceLoss(TranslationLoss):
    """The mean over the sentences of a batch of each sentence's mean loss per token.

    The training loop divides `total` by the number of tokens of the update, so `total` is that mean times the
    number of tokens. This is exact for updates of one batch (training.accumulate 1, one process).
    """

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        logits, labels = model(batch.src_tokens, batch.tgt_tokens[:, :-1]), batch.tgt_tokens[:, 1:]
        losses = F.cross_entropy(
            at_least_float32(logits).transpose(1, 2),  # (B, T, V) -> (B, V, T)
            labels,
            ignore_index=self.pad_id,
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        means = losses.sum(dim=1) / (labels != self.pad_id).sum(dim=1)
        return Loss(means.mean() * batch.target_tokens, batch.target_tokens)


class LossBySentence(TranslationTask):
    """Each sentence counts the same in the training loss, however long it is."""

    @staticmethod
    def objective(settings: Settings) -> TranslationLoss:
        return SentenceLoss(settings.training.label_smoothing)


# Learning rate


def from_the_peak(settings: Settings) -> Schedule:
    """The learning rate without the warm-up: the peak from the first update on, then as in the default."""
    training = settings.training
    return lambda step: learning_rate(max(step, training.warmup_steps), settings.model.d_model, training)


@dataclass(frozen=True)
class Variant:
    """One choice, what it changes in a sentence, and the parts of the training that differ."""

    name: str
    change: str
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings `model.*`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings `training.*`."""
    build: Build = build_model
    task: type[TranslationTask] = TranslationTask
    schedule: Callable[[Settings], Schedule] | None = None


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("default", "Nothing: the choices of this project."),
        Variant(
            "glorot_separate",
            "W^Q, W^K and W^V start in Glorot's range of each matrix alone, √2 times the default's.",
            build=glorot_separate,
        ),
        Variant(
            "unit_embeddings",
            "Embeddings start with standard deviation 1, as in torch's nn.Embedding, not d_model^-½.",
            build=unit_embeddings,
        ),
        Variant(
            "attention_bias", "The four projections of attention have biases.", model={"attention_bias": True}
        ),
        Variant(
            "unscaled_embeddings",
            "Embeddings are not multiplied by √d_model before positions are added.",
            build=unscaled_embeddings,
        ),
        Variant(
            "smoothing_off_gold",
            "Label smoothing gives ε / (V - 1) to each wrong token, not ε / V to every token.",
            task=SmoothingOffGold,
        ),
        Variant(
            "loss_by_sentence",
            "The loss is the mean of the sentences' means, not the mean over all tokens.",
            task=LossBySentence,
        ),
        Variant(
            "norm_epsilon", "LayerNorm's ε is 1e-5, torch's default, not 1e-6.", model={"norm_epsilon": 1e-5}
        ),
        Variant(
            "positions",
            "The wavelengths of tensor2tensor: the divisor is d_model / 2 - 1, not d_model / 2.",
            model={"positions": "tensor2tensor"},
        ),
        Variant(
            "zero_start",
            "The decoder's first input is a zero vector, not the embedding of BOS.",
            build=zero_start,
        ),
        Variant("no_source_eos", "Source sentences do not end in EOS.", build=no_source_eos),
        Variant(
            "dropout_attention",
            "Dropout of 0.3 on the attention weights, too.",
            model={"attention_dropout": 0.3},
        ),
        Variant(
            "dropout_feed_forward",
            "Dropout of 0.3 inside the feed-forward network, too.",
            model={"activation_dropout": 0.3},
        ),
        Variant("pre_norm", "LayerNorm before each sub-layer, and one at the end.", model={"norm": "pre"}),
        Variant(
            "untied",
            "Source embeddings, target embeddings and the output projection are three matrices.",
            model={"tie_embeddings": False},
        ),
        Variant(
            "no_warmup",
            "The rate is at its peak from the first update, and the same as the default's after the warm-up.",
            schedule=from_the_peak,
        ),
        Variant(
            "pre_norm_no_warmup",
            "`pre_norm` and `no_warmup` together.",
            model={"norm": "pre"},
            schedule=from_the_peak,
        ),
        Variant("clipping", "Gradients are clipped to a norm of 1.", training={"max_norm": 1.0}),
        Variant("weight_decay", "Decoupled weight decay of 0.01.", training={"weight_decay": 0.01}),
    )
}
"""The variants, in the order in which they are trained: those that people ask about most come first."""
