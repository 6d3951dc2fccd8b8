"""R-Drop (Liang et al., 2021): two passes with different dropout should give the same distribution.

python examples/r_drop.py [UPDATES]     300 by default: about two minutes on one CPU core

In this folder, `transformer train --config FILE --task r_drop:RDropTask` trains a model with R-Drop.
"""

import tempfile
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from demonstration import toyland_settings, updates
from torch import nn

import transformer
from transformer.data.batches import Batch
from transformer.tasks.translation import TranslationLoss, TranslationTask
from transformer.training.objectives import Loss, at_least_float32


@dataclass(frozen=True)
class RDropLoss(TranslationLoss):
    """Mean cross-entropy of two passes + α/2 × the mean of their two Kullback-Leibler divergences."""

    alpha: float = 5.0

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        src_tokens, tgt_tokens = (torch.cat((side, side)) for side in (batch.src_tokens, batch.tgt_tokens))
        logits, labels = model(src_tokens, tgt_tokens[:, :-1]), tgt_tokens[:, 1:]
        log_p, log_q = at_least_float32(logits).log_softmax(dim=-1).chunk(2)
        forth = F.kl_div(log_p, log_q, log_target=True, reduction="none").sum(dim=-1)  # (B, T)
        back = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(dim=-1)
        is_real = batch.tgt_tokens[:, 1:] != self.pad_id
        divergence = ((forth + back) / 2)[is_real].sum()
        return Loss(self.total(logits, labels) / 2 + self.alpha / 2 * divergence, batch.target_tokens)


class RDropTask(TranslationTask):
    @staticmethod
    def objective(settings: transformer.Settings) -> RDropLoss:
        return RDropLoss(settings.training.label_smoothing)


def main() -> None:
    for name, task in (("cross-entropy", TranslationTask), ("R-Drop", RDropTask)):
        with tempfile.TemporaryDirectory() as folder:
            transformer.train(toyland_settings(folder, updates(), dropout=0.1), task=task)
            scores = transformer.evaluate(folder, task=task, data="toyland:valid[:200]")
        print(f"{name:<14} {scores['bleu']:5.1f} BLEU, {scores['exact_match']:5.1f} % exactly right")


if __name__ == "__main__":
    main()
