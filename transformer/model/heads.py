"""What an encoder is for: modules around one that give tokens, classes or one vector a sentence.

An encoder is any module from tokens to hidden states with a `pad_id`, such as an `Encoder`.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import Settings
from transformer.model.build import ModelBuilder
from transformer.model.encoder import Encoder


class MaskedLanguageModel(nn.Module):
    """Logits of what stands at each position, seen from both sides; `output` projects to the vocabulary."""

    def __init__(self, encoder: nn.Module, output: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = output

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        return self.output(self.encoder(tokens))


class SequenceClassifier(nn.Module):
    """Logits of the classes of a sentence, from the mean of its hidden states.

    The mean, not one special token's state: with few sentences to learn from, every word has a short way to
    the loss from the first update on, and an encoder of another task has no such token.
    """

    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(encoder.embedding.embedding.embedding_dim, num_classes)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch classes"]:
        return self.output(mean_over_tokens(self.encoder(tokens), tokens, self.encoder.pad_id))


class SentenceEmbedder(nn.Module):
    """A vector of length 1 a sentence, the mean of its hidden states: a dot product is a cosine."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad_id: int = encoder.pad_id  # type: ignore[assignment]

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch d_model"]:
        return F.normalize(mean_over_tokens(self.encoder(tokens), tokens, self.pad_id), dim=1)


def mean_over_tokens(
    hidden: Float[Tensor, "batch length d_model"], tokens: Int[Tensor, "batch length"], pad_id: int
) -> Float[Tensor, "batch d_model"]:
    """The mean over real tokens, in float32: a sum of many is where bfloat16 loses most."""
    is_real = (tokens != pad_id)[:, :, None]
    return (hidden.float() * is_real).sum(dim=1) / is_real.sum(dim=1)


def with_head(model: nn.Module, settings: Settings) -> nn.Module:
    """The model that the task of `settings` trains: an encoder gets its head, other models are whole."""
    match settings.trained_task:
        case "masked_language_model":
            return masked_language_model(model, settings)
        case "classification":
            assert settings.data.classes is not None, "the task has filled them in"
            classifier = SequenceClassifier(model, settings.data.classes.count(",") + 1)  # type: ignore[arg-type]
            nn.init.xavier_uniform_(classifier.output.weight)  # as `ModelBuilder.initialise`
            nn.init.zeros_(classifier.output.bias)
            return classifier
        case "sentence_embedding":
            return SentenceEmbedder(model)
        case _:
            return model


def masked_language_model(encoder: nn.Module, settings: Settings) -> MaskedLanguageModel:
    """The projection is the embedding's matrix where embeddings are tied, with a bias if there is one, 0."""
    output = ModelBuilder(settings.model).output(encoder.embedding.embedding)  # type: ignore
    if not settings.model.tie_embeddings:
        nn.init.normal_(output.weight, std=settings.model.d_model**-0.5)
    if settings.model.output_bias:
        nn.init.zeros_(output.bias)
    return MaskedLanguageModel(encoder, output)
