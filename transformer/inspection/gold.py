"""The correct translation of a toyland sentence and its word pairs, from toyland's grammar."""

from transformer.config import Settings
from transformer.inspection.data import Gold
from transformer.toyland import alignments, analyse, antecedents, particles


def toyland_gold(line: str) -> Gold | None:
    """Return the correct translation with its word pairs; None if toyland's grammar cannot produce `line`."""
    try:
        example = analyse(line)
    except ValueError:
        return None
    return Gold(example.target, alignments(example), antecedents(example), particles(example))


def has_oracle(settings: Settings) -> bool:
    """Whether a run translates toyland's English to toyland's German, so that `toyland_gold` applies."""
    data = settings.data
    return data.train.startswith("toyland:") and (data.source, data.target) == ("en", "de")
