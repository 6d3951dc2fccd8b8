"""Methods from after 2017, for `multi30k.py`: R-Drop, BPE-dropout, distillation and a moving average."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import transformer
from transformer.checkpoint.format import MODEL, OPTIMIZER
from transformer.checkpoint.reading import read_manifest
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.checkpoint.writing import write_checkpoint
from transformer.config import Settings
from transformer.data.batches import Batch, TokenBatches
from transformer.data.flat import Lists
from transformer.data.padding import right_padded
from transformer.data.tokenizers.moses import MosesTokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, Tokenizer
from transformer.data.tokenizing import tokenize_pairs
from transformer.decoding.ensemble import Ensemble
from transformer.tasks.task import TokenizedText
from transformer.tasks.translation import TranslationLoss, TranslationTask
from transformer.training.objectives import Loss, at_least_float32

METHODS = {
    "r_drop": "R-Drop (Liang et al., 2021), α = 5: two passes with different dropout should agree.",
    "bpe_dropout": "BPE-dropout (Provilkov et al., 2020): each merge is left out with probability 0.1.",
    "distillation": "Half of the loss is the cross-entropy with the mean distribution of the --teachers.",
}
R_DROP_ALPHA, BPE_DROPOUT, TEACHER_WEIGHT = 5.0, 0.1, 0.5
DECAY = 0.999
"""Share of the old average that an update keeps: it spans about the last thousand updates."""


# Loss


@dataclass(frozen=True, kw_only=True)
class MethodsLoss(TranslationLoss):
    """Cross-entropy, with R-Drop if `alpha` is not 0, and with a teacher if there is one."""

    alpha: float = 0.0
    teacher: nn.Module | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        passes = 2 if self.alpha else 1
        sources, targets = (side.repeat(passes, 1) for side in (batch.src_tokens, batch.tgt_tokens))
        inputs, labels = targets[:, :-1], targets[:, 1:]
        is_real = labels != self.pad_id
        logits = at_least_float32(model(sources, inputs))
        loss = self.total(logits, labels)
        if self.teacher is not None:
            with torch.no_grad():
                wanted = self.teacher(batch.src_tokens, batch.tgt_tokens[:, :-1]).softmax(dim=-1)
            wanted = wanted.repeat(passes, 1, 1)
            imitation = F.cross_entropy(logits[is_real], wanted[is_real], reduction="sum")
            loss = (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * imitation
        loss = loss / passes
        if self.alpha:
            log_p, log_q = logits[is_real].log_softmax(dim=-1).chunk(2)
            divergences = F.kl_div(log_p, log_q, log_target=True, reduction="sum") + F.kl_div(
                log_q, log_p, log_target=True, reduction="sum"
            )
            loss = loss + self.alpha / 2 * divergences / 2
        return Loss(loss, batch.target_tokens)


@cache
def ensemble(runs: tuple[str, ...]) -> nn.Module:
    models = [transformer.load_pretrained(run, task=TranslationTask).model for run in runs]
    return Ensemble(models).requires_grad_(False)


# BPE-dropout


class DropoutBatches(TokenBatches):
    """Batches of pairs whose words are split anew each time, with some merges of BPE left out.

    The batches are those of the unchanged splits, so they can have more tokens than the limit. No seed can be
    set for a batch, because SentencePiece has one generator for all; a resumed training draws other splits.
    """

    def __init__(self, table: Any, tokenizer: Tokenizer, **options: Any) -> None:
        self.processor = subwords(tokenizer).processor
        super().__init__(table, **options)

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        src, tgt, lines = self.pairs.take(rows)
        sources, targets = self.split_anew(src), self.split_anew(tgt)
        return Batch(
            src_tokens=right_padded(sources),
            tgt_tokens=right_padded([[BOS_ID, *row] for row in targets]),
            lines=lines,
            target_tokens=sum(map(len, targets)),
        )

    def split_anew(self, ids: Lists) -> list[list[int]]:
        rows = np.split(ids.elements, np.cumsum(ids.lengths)[:-1])
        texts = self.processor.decode([row[:-1].tolist() for row in rows])  # without EOS
        drawn = self.processor.encode(texts, enable_sampling=True, alpha=BPE_DROPOUT, nbest_size=-1)
        return [[*row, EOS_ID] for row in drawn]


def subwords(tokenizer: Any) -> Any:
    """The SentencePiece tokenizer, without Moses' rules before it."""
    return tokenizer.subwords if isinstance(tokenizer, MosesTokenizer) else tokenizer


def task_with(methods: Sequence[str], teachers: Sequence[str | Path]) -> type[TranslationTask]:
    """A translation task that trains with these methods."""
    if ("distillation" in methods) != bool(teachers):
        raise ValueError("the method distillation needs --teachers, and no other method does")

    if not methods:
        return TranslationTask

    class MethodsTask(TranslationTask):
        def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
            text = super().tokenize(tokenizer, settings)
            if "bpe_dropout" not in methods:
                return text
            table, _ = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
            tokens = settings.training.tokens_per_batch
            batches = DropoutBatches(table, tokenizer, tokens_per_batch=tokens, seed=settings.seed)
            return replace(text, batches=batches)

        @staticmethod
        def objective(settings: Settings) -> TranslationLoss:
            plain = TranslationTask.objective(settings)
            alpha = R_DROP_ALPHA if "r_drop" in methods else 0.0
            teacher = ensemble(tuple(map(str, teachers))) if teachers else None
            if not (alpha or teacher):
                return plain
            return MethodsLoss(label_smoothing=plain.label_smoothing, alpha=alpha, teacher=teacher)

    return MethodsTask


# The exponential moving average


class AveragingAdam(torch.optim.AdamW):
    """Adam that also keeps an exponential moving average of each parameter, in its state."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        averages = [self.state[each].setdefault("average", each.detach().clone()) for each in parameters]
        torch._foreach_lerp_(averages, parameters, 1 - self.decay())
        return result

    def decay(self) -> float:
        """DECAY or, in the first updates, less: otherwise the average would be mostly the initial values."""
        first = self.param_groups[0]["params"][0]
        done = float(self.state[first]["step"])
        return min(DECAY, done / (done + 9))


def averaging_adam(settings: Settings) -> Any:
    training = settings.training

    def make(named: Sequence[tuple[str, nn.Parameter]]) -> AveragingAdam:
        betas = training.adam_beta1, training.adam_beta2
        return AveragingAdam([p for _, p in named], lr=1.0, betas=betas, eps=training.adam_epsilon,
                             weight_decay=0.0, fused=True)  # fmt: skip

    return make


def write_average(run: Run) -> Path:
    """Write the moving average of the last checkpoint as a checkpoint of its own."""
    last = run.checkpoint(run.steps()[-1])
    suffix = ".average"
    kept = read_tensors(last / OPTIMIZER)
    weights: dict[str, Tensor] = {
        name.removesuffix(suffix): tensor for name, tensor in kept.items() if name.endswith(suffix)
    }
    if weights.keys() != read_tensors(last / MODEL).keys():
        raise ValueError(f"{last} does not hold the average of each weight")
    folder = run.checkpoints / f"moving-average-{last.name}"
    tokenizer_hash = read_manifest(last)["tokenizer"]
    write_checkpoint(folder, tensors={MODEL: weights}, state={}, tokenizer_hash=tokenizer_hash)
    return folder
