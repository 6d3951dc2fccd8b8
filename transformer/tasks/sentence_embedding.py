"""Sentence embeddings: an encoder learns to give two sentences with the same meaning similar vectors.

A trained model is used through `Embedder` (`decoding/predictors.py`) or `transformer embed` and `nearest`.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.config import Settings
from transformer.data.batches import Batch, PairBatches
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizing import tokenize_pairs
from transformer.evaluation.validation import mean_loss, outputs
from transformer.model.heads import sentence_embedder
from transformer.tasks.registry import TASKS
from transformer.tasks.task import TokenizedText
from transformer.tasks.translation import ParallelText, load_table
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Loss
from transformer.training.parallel import gathered


@dataclass(frozen=True)
class ContrastiveLoss:
    """InfoNCE: find the target of each source among all targets of the batch, and vice versa.

    The logits are cosine similarities divided by `temperature`. The losses of the two directions are
    averaged, so each pair counts once.
    """

    temperature: float
    label_smoothing: float = 0.0

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        sources, targets = model(batch.src_tokens), model(batch.tgt_tokens[:, 1:])  # without the targets' BOS
        # Not in bfloat16, because rounding errors, divided by a temperature of 0.05, would reach 0.1.
        with torch.autocast(sources.device.type, enabled=False):
            logits = sources @ targets.T / self.temperature  # (pairs, pairs)
        right = torch.arange(logits.shape[0], device=logits.device)
        both = [
            F.cross_entropy(side, right, label_smoothing=self.label_smoothing, reduction="sum")
            for side in (logits, logits.T)
        ]
        return Loss((both[0] + both[1]) / 2, batch.target_tokens)


@dataclass(frozen=True)
class EmbeddingValidation:
    """Loss per pair, and P@1: how often a sentence's nearest neighbour is the other sentence of its pair.

    The loss compares a sentence with the sentences of its batch; P@1 compares a sentence with all sentences
    of the corpus. `p@1` looks for the target nearest to each source, and `p@1_reversed` for the source
    nearest to each target.
    """

    batches: PairBatches
    objective: ContrastiveLoss

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, float]:
        loss, _ = mean_loss(model, self.batches, self.objective, group)
        with gathered(model):
            share = [
                (outputs(model, batch.src_tokens), outputs(model, batch.tgt_tokens[:, 1:]))
                for batch in self.batches.one_pass(group.rank, group.size)
            ]
        sides = group.collect(share)
        sources, targets = (torch.cat(side) for side in zip(*sides, strict=True))
        return {
            "loss": loss,
            "p@1": precision_at_1(sources, targets),
            "p@1_reversed": precision_at_1(targets, sources),
        }


def precision_at_1(queries: Tensor, candidates: Tensor) -> float:
    """The percentage of queries whose nearest candidate has the same index; all vectors have unit length."""
    return 100 * float(is_nearest(queries, candidates).float().mean())


def is_nearest(queries: Tensor, candidates: Tensor) -> Tensor:
    """For each query, whether its nearest candidate has the same index; shape (queries,)."""
    found = [(part @ candidates.T).argmax(dim=1) for part in torch.split(queries, 1000)]
    return torch.cat(found) == torch.arange(len(queries))


class SentenceEmbeddingTask(ParallelText):
    """Trains one encoder for both sides of a parallel corpus, which is read as in the translation task."""

    kind, metrics = TASKS["sentence_embedding"].kind, TASKS["sentence_embedding"].metrics
    head = staticmethod(sentence_embedder)

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        tokenized, counts = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
        return TokenizedText(
            PairBatches(tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed),
            asdict(counts),
            f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped)",
        )

    @staticmethod
    def objective(settings: Settings) -> ContrastiveLoss:
        return ContrastiveLoss(settings.training.temperature, settings.training.label_smoothing)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> EmbeddingValidation:
        table = load_table(settings, name)
        tokenized, _ = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
        batches = PairBatches(
            tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
        )
        return EmbeddingValidation(batches, ContrastiveLoss(settings.training.temperature))
