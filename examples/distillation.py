"""Word-level knowledge distillation (Kim and Rush, 2016): a small model learns to imitate a large one.

python examples/distillation.py [UPDATES]     300 by default: about two minutes on one CPU core
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from demonstration import toyland_settings, updates
from torch import nn

import transformer
from transformer.data.batches import Batch
from transformer.tasks.translation import TranslationLoss, TranslationTask
from transformer.training.objectives import Loss, at_least_float32


@dataclass(frozen=True, kw_only=True)
class DistillationLoss(TranslationLoss):
    """(1 - weight) × cross-entropy with the reference + weight × cross-entropy with the teacher's output."""

    teacher: nn.Module
    weight: float = 0.5

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        inputs, labels = (batch.src_tokens, batch.tgt_tokens[:, :-1]), batch.tgt_tokens[:, 1:]
        with torch.no_grad():
            wanted = at_least_float32(self.teacher(*inputs)).softmax(dim=-1)
        logits, is_real = model(*inputs), labels != self.pad_id
        from_teacher = F.cross_entropy(at_least_float32(logits)[is_real], wanted[is_real], reduction="sum")
        from_text = self.total(logits, labels)
        return Loss((1 - self.weight) * from_text + self.weight * from_teacher, batch.target_tokens)


def distilled_from(run: str | Path) -> type[TranslationTask]:
    """Make a translation task whose teacher is the model of `run`; both must use the same vocabulary."""
    teacher = transformer.load_pretrained(run).model.requires_grad_(False)

    class DistillationTask(TranslationTask):
        @staticmethod
        def objective(settings: transformer.Settings) -> DistillationLoss:
            return DistillationLoss(label_smoothing=settings.training.label_smoothing, teacher=teacher)

    return DistillationTask


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        teacher = transformer.train(toyland_settings(f"{folder}/teacher", 2 * updates()))
        small = {"d_model": 64, "d_ff": 256, "num_layers": 1}
        for name, task in (("text", TranslationTask), ("teacher", distilled_from(teacher))):
            run = transformer.train(toyland_settings(f"{folder}/from-{name}", updates(), **small), task=task)
            scores = transformer.evaluate(run, task=task, data="toyland:valid[:200]")
            figures = f"{scores['bleu']:5.1f} BLEU, {scores['exact_match']:5.1f} % exactly right"
            print(f"from the {name:<8} {figures}")


if __name__ == "__main__":
    main()
