"""The classes that hold what `inspect` records about a sentence; other modules show it as HTML or text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from transformer.inspection.search_record import SearchRecord
from transformer.inspection.tokens import Axis
from transformer.model.recording import Call

CROSS, ENCODER, DECODER = "cross", "encoder", "decoder"
SOURCE, TARGET, READ = "source", "target", "read"
AXES = {CROSS: (TARGET, SOURCE), ENCODER: (SOURCE, SOURCE), DECODER: (TARGET, READ)}
"""For each kind of attention, the axis of its rows and the axis of its columns. `TARGET` has the predicted
tokens. `READ` has the tokens that the decoder reads, which are shifted by one step."""

ABOUT_ATTENTION = (
    "Attention shows where a head looks, not why the word was chosen; "
    "for that, see what changes without the head."
)


class Attention(NamedTuple):
    """The weights and scores of all heads of one attention module."""

    name: str
    """The name of the module in the model."""
    kind: str
    """One of the kinds in `AXES`."""
    layer: int
    """Counted from 1."""
    weights: Tensor
    """(H, rows, columns), on the CPU, in float32; rows sum to 1."""
    scores: Tensor | None
    """Q Kᵀ / √d_k of the same shape, -inf where masked; None if the module does not compute equation 1."""
    key_width: int


@dataclass(frozen=True)
class Head:
    """The role of one head; layer and head are counted from 1."""

    kind: str
    layer: int
    head: int
    role: str
    """The name of the head's largest measure (see `roles.py`); "broad" or "mixed" if none is large enough."""
    measures: dict[str, float]
    cost: float
    """The drop in the log-probability of the output, in nats, if this head is removed."""

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.head}"


class Guess(NamedTuple):
    """A token or class, and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """One prediction of the model: a token of an axis, or the class of the sentence."""

    text: str
    log_prob: float
    axis: str | None
    place: int
    """The index of the piece on the axis; 0 if there is no axis."""
    by_layer: list[list[Guess]]
    """The best guesses from the hidden states of each layer; the last list is the model's own output."""
    own: list[float]
    """The probability of `text` after each layer."""


@dataclass(frozen=True)
class SublayerNorms:
    """The L2 norms of a sub-layer's input, update and output vectors, for each piece of an axis."""

    name: str
    axis: str
    before: list[float]
    update: list[float]
    after: list[float]


@dataclass(frozen=True)
class Gold:
    """The correct translation of a sentence and its word pairs, from an oracle such as toyland's grammar.

    Pairs are (source word, target word), both counted from 0.
    """

    reference: str
    alignment: list[tuple[int, int]] = field(default_factory=list)
    pronouns: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of a source noun and the target pronoun that refers to it."""
    particles: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of a source verb and the particle of its translation, a separable German verb."""


class Output(NamedTuple):
    """One output of the model, and its score in the search."""

    text: str
    score: float


class Choice(NamedTuple):
    """The word that the HTML page shows first, and the most informative head for this word."""

    kind: str
    word: int
    layer: int
    head: int


@dataclass(frozen=True)
class Findings:
    """Everything recorded about a model and one sentence; `inspect` returns it as an `Inspection`."""

    task: str
    facts: str
    """The sizes of the model and the settings of the search, in one line."""
    axes: dict[str, Axis]
    outputs: list[Output]
    log_prob: float | None
    attention: list[Attention]
    heads: list[Head]
    predictions: list[Prediction]
    sublayers: list[SublayerNorms]
    calls: dict[str, Call]
    """The shapes of the inputs and outputs of every module, by the name of the module."""
    choice: Choice | None
    search: SearchRecord | None = None
    gold: Gold | None = None
    alignment: list[tuple[int, int]] = field(default_factory=list)
    """The model's alignment: pairs of source and target words, from the attention of the last layers."""
    roles_from: str = "this sentence"
    missing: Sequence[str] = ()
    """Sentences that say which parts the HTML page cannot show for this model, and why."""

    @property
    def is_right(self) -> bool | None:
        """Whether the output equals the correct translation; None if no correct translation is known."""
        return None if self.gold is None else self.outputs[0].text == self.gold.reference

    def module(self, kind: str, layer: int) -> Attention:
        [found] = [each for each in self.attention if (each.kind, each.layer) == (kind, layer)]
        return found
