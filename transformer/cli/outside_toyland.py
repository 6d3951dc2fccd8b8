"""Warnings about sentences outside toyland, for a model that has learned nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer.config.files import load_settings
from transformer.messages import warn

MOST_WARNINGS = 10
"""Someone who translates a whole file of another language needs no more."""
MOST_PARSED = 10
"""Of more sentences at once, only the words are looked at: parsing takes up to 0.3 seconds a sentence."""


@dataclass
class OutsideToyland:
    """Warns about sentences that toyland's grammar cannot say, and names the words that it does not know.

    The model translates them all the same, into words that make no sense.
    """

    warnings: int = 0

    def check(self, sentences: Sequence[str], first_line: int) -> None:
        """Warn about these sentences, if they are the first of their kind; blank ones are fine."""
        from transformer import toyland

        why = toyland.why_outside if len(sentences) <= MOST_PARSED else toyland.obviously_outside
        for number, sentence in enumerate(sentences, start=first_line):
            if self.warnings >= MOST_WARNINGS:
                return
            if sentence.strip() and (reason := why(sentence)) is not None:
                self.warnings += 1
                last = self.warnings == MOST_WARNINGS
                warn(f"line {number} is {reason}{'; further lines are not checked' if last else ''}")


def learned_toyland(runs: Sequence[str]) -> bool:
    """Whether one of these runs was trained on toyland."""
    from transformer.checkpoint.pretrained import find_pretrained

    texts = [load_settings(find_pretrained(run)[0].config).data.train for run in runs]
    return any(text.startswith("toyland:") for text in texts)
