"""Masked language modelling: plain sentences, and the loss of the tokens that were hidden in them."""

from transformer.config import Settings
from transformer.config.checks import require
from transformer.data.masking import MASK, MaskedBatches, has_mask
from transformer.data.sentences import encode_sentences, read_sentences
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.evaluation.validation import MaskedValidation
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.task import Prepared, prepare_validation
from transformer.training.objectives import MaskedLoss


def make_objective(label_smoothing: float) -> MaskedLoss:
    """The loss of training and validation. It overwrites the logits, which nothing else reads here."""
    return MaskedLoss(label_smoothing, cross_entropy=overwriting_cross_entropy)


class MaskedLanguageModelling:
    """An encoder that fills gaps; labels that a file has by `data.label_format` are not read."""

    def __init__(self, settings: Settings) -> None:
        require(
            settings.data.tokenizer == "sentencepiece",
            "task masked_language_model reserves a token in the vocabulary; set data.tokenizer sentencepiece",
        )
        self.settings = settings
        self.texts = read_texts(settings.data.train, settings)

    def train_tokenizer(self) -> Tokenizer:
        data = self.settings.data
        return train_tokenizer(
            self.texts, vocab_size=data.vocab_size, normalization=data.normalization, symbols=[MASK]
        )

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        require(
            has_mask(tokenizer),
            f"{settings.training.start_from}: its tokenizer has no {MASK}; start from another run, or anew",
        )
        batches = make_batches(self.texts, tokenizer, settings, shuffle=True)
        tokens = int(batches.lengths.sum())
        return Prepared(
            batches,
            make_objective(settings.training.label_smoothing),
            prepare_validation(make_validation, tokenizer, settings),
            {"sentences": len(self.texts), "tokens": tokens},
            f"{len(self.texts):,} sentences, {tokens:,} tokens",
        )


def read_texts(name: str, settings: Settings) -> list[str]:
    """The sentences of a file that are not blank."""
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


def make_validation(name: str, tokenizer: Tokenizer, settings: Settings) -> MaskedValidation:
    """The same tokens of a file are hidden each time."""
    texts = read_texts(name, settings)
    return MaskedValidation(make_batches(texts, tokenizer, settings, shuffle=False), make_objective(0.0))
