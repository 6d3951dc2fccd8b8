"""Language modelling: running text in contiguous blocks, and the loss of each token given those before it."""

from transformer.config import Settings
from transformer.data.running_text import BlockBatches, read_text, token_ids
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.evaluation.validation import LanguageModelValidation
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.task import Prepared, make_tokenizer, prepare_validation
from transformer.training.objectives import LanguageModelLoss


def make_objective(label_smoothing: float) -> LanguageModelLoss:
    """The loss of training and validation. It overwrites the logits, which nothing else reads here."""
    return LanguageModelLoss(label_smoothing, cross_entropy=overwriting_cross_entropy)


class LanguageModel:
    """A decoder-only model on running text."""

    def __init__(self, settings: Settings) -> None:
        self.text = read_text(settings.data.train)
        self.settings = settings

    def train_tokenizer(self) -> Tokenizer:
        data = self.settings.data
        has_lines = data.tokenizer == "characters"
        return make_tokenizer([self.text] if has_lines else self.text.split("\n"), data)

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        batches = make_batches(self.text, tokenizer, settings, shuffle=True)
        tokens = len(batches.ids)
        return Prepared(
            batches,
            make_objective(settings.training.label_smoothing),
            prepare_validation(make_validation, tokenizer, settings),
            {"characters": len(self.text), "tokens": tokens},
            f"{len(self.text):,} characters, {tokens:,} tokens in blocks of {settings.data.context}",
        )


def make_batches(text: str, tokenizer: Tokenizer, settings: Settings, *, shuffle: bool) -> BlockBatches:
    return BlockBatches(
        token_ids(text, tokenizer),
        context=settings.data.context,
        tokens_per_batch=settings.training.tokens_per_batch,
        seed=settings.seed,
        shuffle=shuffle,
    )


def make_validation(name: str, tokenizer: Tokenizer, settings: Settings) -> LanguageModelValidation:
    """The loss on all of a text, in the blocks that training uses."""
    text = read_text(name)
    batches = make_batches(text, tokenizer, settings, shuffle=False)
    return LanguageModelValidation(batches, make_objective(0.0), len(text.encode()))
