"""Warnings about sentences outside toyland, the built-in toy language, for models trained only on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformer.config.errors import shortened
from transformer.config.files import load_settings
from transformer.messages import warn

MOST_WARNINGS = 10
"""After this many warnings, no more lines are checked: every line of ordinary text would cause a warning."""
MOST_PARSED = 10
"""If more sentences than this are checked at once, none is parsed; the faster `obviously_outside` is used.

Only parsing is a complete check, but it takes up to 0.3 seconds for each sentence.
"""

LONGEST_REASON = 200
"""The reason in a warning is truncated to this many characters, because it may list many unknown words."""


@dataclass
class OutsideToyland:
    """Warns about sentences that toyland's grammar cannot produce, and names their unknown words.

    The model translates such sentences anyway, but the result makes no sense.
    """

    warnings: int = 0

    def check(self, sentences: Sequence[str], first_line: int) -> None:
        """Warn about sentences outside toyland, at most `MOST_WARNINGS` times; blank lines are accepted."""
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
    from transformer.checkpoint.opening import find_pretrained

    texts = [load_settings(find_pretrained(run)[0].config).data.train for run in runs]
    return any(text.startswith("toyland:") for text in texts)
