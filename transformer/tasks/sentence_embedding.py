"""Sentence embeddings: pairs of sentences that mean the same, and the loss of finding the other side."""

from dataclasses import asdict

from transformer.config import Settings
from transformer.data.batches import PairBatches, tokenize_pairs
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.evaluation.validation import EmbeddingValidation
from transformer.tasks.task import Prepared, prepare_validation
from transformer.tasks.translation import ParallelText, read_table
from transformer.training.objectives import ContrastiveLoss


class SentenceEmbedding(ParallelText):
    """One encoder for both sides of parallel text, which is read as for translation."""

    def prepare(self, tokenizer: Tokenizer, settings: Settings) -> Prepared:
        tokenized, counts = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
        return Prepared(
            PairBatches(tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed),
            ContrastiveLoss(settings.training.temperature, settings.training.label_smoothing),
            prepare_validation(make_validation, tokenizer, settings),
            asdict(counts),
            f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped)",
        )


def make_validation(name: str, tokenizer: Tokenizer, settings: Settings) -> EmbeddingValidation:
    tokenized, _ = tokenize_pairs(read_table(settings, name), tokenizer, max_tokens=settings.data.max_tokens)
    batches = PairBatches(
        tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
    )
    return EmbeddingValidation(batches, ContrastiveLoss(settings.training.temperature))
