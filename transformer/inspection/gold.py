"""What toyland's oracle knows about a sentence."""

from transformer.config import Settings
from transformer.inspection.data import Gold
from transformer.toyland import alignments, analyse, antecedents, particles


def toyland_gold(line: str) -> Gold | None:
    """The right translation, its alignment, pronouns and particles; None if `line` is not of toyland."""
    try:
        example = analyse(line)
    except ValueError:
        return None
    return Gold(example.target, alignments(example), antecedents(example), particles(example))


def has_oracle(settings: Settings) -> bool:
    """Whether a run translates toyland's English to its German."""
    data = settings.data
    return data.train.startswith("toyland:") and (data.source, data.target) == ("en", "de")
