"""Masked language modelling: an encoder learns to predict hidden tokens of a sentence from the others.

A trained model is used through `MaskFiller` (`decoding/predictors.py`) or `transformer fill-mask`.
"""

from dataclasses import dataclass

from torch import nn

from transformer.config import Settings
from transformer.config.checks import require
from transformer.data.masking import MASK, MaskedBatch, MaskedBatches, has_mask
from transformer.data.sentences import encode_sentences, read_sentences
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.evaluation.validation import mean_loss, outputs, perplexity
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.model.heads import masked_language_model
from transformer.tasks.registry import TASKS
from transformer.tasks.task import Task, TokenizedText
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Loss, TokenLoss
from transformer.training.parallel import gathered


class MaskedLoss(TokenLoss):
    """The loss of predicting each hidden token from all visible tokens."""

    def __call__(self, model: nn.Module, batch: MaskedBatch) -> Loss:
        return Loss(self.total(model(batch.tokens, batch.places), batch.labels), batch.target_tokens)


@dataclass(frozen=True)
class MaskedValidation:
    """Computes loss and perplexity per hidden token, and the percentage of correctly predicted tokens."""

    batches: MaskedBatches
    objective: MaskedLoss

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, tokens = mean_loss(model, self.batches, self.objective, group)
        right = 0
        with gathered(model):
            for batch in self.batches.one_pass(group.rank, group.size):
                found = outputs(model, batch.tokens, batch.places).argmax(dim=-1)
                right += int((found == batch.labels).sum())
        [right] = group.sum(right)
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": 100 * right / tokens}


class MaskedLanguageModelTask(Task):
    """Trains an encoder on masked sentences; labels in the file (`data.label_format`) are ignored."""

    kind, metrics = TASKS["masked_language_model"].kind, TASKS["masked_language_model"].metrics
    head = staticmethod(masked_language_model)

    def __init__(self, settings: Settings) -> None:
        require(
            settings.data.tokenizer == "sentencepiece",
            "task masked_language_model needs a mask token, which only a sentencepiece vocabulary can have; "
            "set data.tokenizer sentencepiece",
        )
        self.settings = settings
        self.texts = read_texts(settings.data.train, settings)

    def train_tokenizer(self) -> Tokenizer:
        data = self.settings.data
        return train_tokenizer(
            self.texts, vocab_size=data.vocab_size, normalization=data.normalization, symbols=[MASK]
        )

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        require(
            has_mask(tokenizer),
            f"{settings.training.start_from}: its tokenizer has no {MASK}; "
            "start from another run, or from scratch",
        )
        batches = make_batches(self.texts, tokenizer, settings, shuffle=True)
        tokens = int(batches.lengths.sum())
        return TokenizedText(
            batches,
            {"sentences": len(self.texts), "tokens": tokens},
            f"{len(self.texts):,} sentences, {tokens:,} tokens",
        )

    @staticmethod
    def objective(settings: Settings) -> MaskedLoss:
        """Return a loss that overwrites the logits, which is safe because nothing else reads them."""
        return MaskedLoss(settings.training.label_smoothing, cross_entropy=overwriting_cross_entropy)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> MaskedValidation:
        """Return a validation that always hides the same tokens, so that its metrics can be compared."""
        batches = make_batches(read_texts(name, settings), tokenizer, settings, shuffle=False)
        return MaskedValidation(batches, MaskedLoss(0.0, cross_entropy=overwriting_cross_entropy))


def read_texts(name: str, settings: Settings) -> list[str]:
    """Read the sentences of a file, without blank lines."""
    sentences = read_sentences(name, settings.data.label_format)
    texts = [sentence.text for sentence in sentences if sentence.text.strip()]
    require(bool(texts), f"{name}: every line is blank")
    return texts


def make_batches(
    texts: list[str], tokenizer: Tokenizer, settings: Settings, *, shuffle: bool
) -> MaskedBatches:
    return MaskedBatches(
        encode_sentences(texts, tokenizer, settings.data.max_tokens),
        tokenizer.vocab_size,
        tokens_per_batch=settings.training.tokens_per_batch,
        seed=settings.seed,
        shuffle=shuffle,
    )
