"""Warnings about sentences outside toyland, for a model that has learned nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer.config.errors import shortened
from transformer.config.files import load_settings
from transformer.messages import warn

MOST_WARNINGS = 10
"""After this many, further lines are not checked: every line of a file in another language would give one."""
MOST_PARSED = 10
"""More sentences at once are not parsed, which takes up to 0.3 seconds each; only their words are checked."""

LONGEST_REASON = 200
"""Maximum characters of the reason in a warning: there may be many unknown words, of any length."""


@dataclass
class OutsideToyland:
    """Warns about sentences that toyland's grammar cannot produce, and names the words that it lacks.

    The model translates them anyway, but the result makes no sense.
    """

    warnings: int = 0

    def check(self, sentences: Sequence[str], first_line: int) -> None:
        """Warn about sentences outside toyland, at most `MOST_WARNINGS` times; blank lines are fine."""
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
