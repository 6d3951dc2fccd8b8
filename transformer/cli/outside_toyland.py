"""Warnings about sentences outside toyland, for a model that has learned nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer.config.errors import shortened
from transformer.config.files import load_settings
from transformer.messages import warn

MOST_WARNINGS = 10
"""Enough for someone who translates a whole file in another language."""
MOST_PARSED = 10
"""If there are more sentences at once, only words are checked: parsing takes up to 0.3 seconds each."""

LONGEST_REASON = 200
"""Characters: unknown words may be many, and of any length."""


@dataclass
class OutsideToyland:
    """Warns about sentences that toyland's grammar cannot produce, and names the words that it lacks.

    The model translates them anyway, but the result makes no sense.
    """

    warnings: int = 0

    def check(self, sentences: Sequence[str], first_line: int) -> None:
        """Warn about sentences outside toyland until there are `MOST_WARNINGS`; blank ones are fine."""
        from transformer import toyland

        why = toyland.why_outside if len(sentences) <= MOST_PARSED else toyland.obviously_outside
        for number, sentence in enumerate(sentences, start=first_line):
            if self.warnings >= MOST_WARNINGS:
                return
            if sentence.strip() and (reason := why(sentence)) is not None:
                self.warnings += 1
                last = self.warnings == MOST_WARNINGS
                end = "; further lines are not checked" if last else ""
                warn(f"line {number} is {shortened(reason, LONGEST_REASON)}{end}")


def learned_toyland(runs: Sequence[str]) -> bool:
    """Whether one of these runs was trained on toyland."""
    from transformer.checkpoint.pretrained import find_pretrained

    texts = [load_settings(find_pretrained(run)[0].config).data.train for run in runs]
    return any(text.startswith("toyland:") for text in texts)
