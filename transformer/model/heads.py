"""Heads for an encoder: they predict masked tokens or classes, or make one vector per sentence.

The encoder can be any module with a `pad_id` that maps tokens to hidden states, such as an `Encoder`.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import Settings
from transformer.model.build import ModelBuilder
from transformer.model.encoder import Encoder


class MaskedLanguageModel(nn.Module):
    """Logits of the token at each position, predicted from the tokens before and after it, as in BERT.

    Training needs the logits of the hidden tokens only, a seventh of all; `places` names them, as indices of
    `tokens.flatten()`.
    """

    def __init__(self, encoder: nn.Module, output: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = output

    def forward(
        self, tokens: Int[Tensor, "batch length"], places: Int[Tensor, " hidden"] | None = None
    ) -> Float[Tensor, "*positions vocabulary"]:
        hidden_states = self.encoder(tokens)
        if places is not None:
            hidden_states = hidden_states.flatten(0, 1).index_select(0, places)
        return self.output(hidden_states)


class SequenceClassifier(nn.Module):
    """Logits of a sentence's classes, from the mean of its hidden states.

    BERT uses the state of a special first token instead. The mean has two advantages: every word gets a
    direct gradient from the first update on, which helps with little data; and the head also fits an encoder
    that was trained for another task, without such a token.
    """

    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(encoder.embedding.embedding.embedding_dim, num_classes)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch classes"]:
        mean = mean_over_tokens(self.encoder(tokens), tokens, self.encoder.pad_id)
        return self.output(mean.to(self.output.weight.dtype))


class SentenceEmbedder(nn.Module):
    """One unit vector per sentence: the normalised mean of its hidden states. Dot products are cosines."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.pad_id: int = encoder.pad_id  # type: ignore[assignment]

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch d_model"]:
        return F.normalize(mean_over_tokens(self.encoder(tokens), tokens, self.pad_id), dim=1)


def mean_over_tokens(
    hidden: Float[Tensor, "batch length d_model"], tokens: Int[Tensor, "batch length"], pad_id: int
) -> Float[Tensor, "batch d_model"]:
    """Return the mean over real tokens, summed in float32 because long sums lose precision in bfloat16."""
    is_real = (tokens != pad_id)[:, :, None]
    return (hidden.float() * is_real).sum(dim=1) / is_real.sum(dim=1)


def sequence_classifier(model: nn.Module, settings: Settings) -> SequenceClassifier:
    """Add a head for `data.classes` to the model; the head's matrix is initialised as in `ModelBuilder`."""
    assert settings.data.classes is not None, "the task must set data.classes"
    classifier = SequenceClassifier(model, settings.data.classes.count(",") + 1)  # type: ignore[arg-type]
    nn.init.xavier_uniform_(classifier.output.weight)
    nn.init.zeros_(classifier.output.bias)
    return classifier


def sentence_embedder(model: nn.Module, settings: Settings) -> SentenceEmbedder:  # noqa: ARG001
    """Add a head, without parameters, that averages the model's hidden states."""
    return SentenceEmbedder(model)


def masked_language_model(model: nn.Module, settings: Settings) -> MaskedLanguageModel:
    """Add a head that projects the model's hidden states to the vocabulary.

    If `tie_embeddings` is set, the projection uses the matrix of the embedding.
    """
    output = ModelBuilder(settings.model).output(model.embedding.embedding)  # type: ignore
    if not settings.model.tie_embeddings:
        nn.init.normal_(output.weight, std=settings.model.d_model**-0.5)
    if settings.model.output_bias:
        nn.init.zeros_(output.bias)
    return MaskedLanguageModel(model, output)
