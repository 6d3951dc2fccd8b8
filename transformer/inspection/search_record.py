"""A record of a beam search as plain data, from which an HTML page draws the search.

The fate of a candidate is what the search did with it. The lane of a hypothesis is the height at which the
page draws it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from transformer.decoding.beam import BeamStep, Closed
from transformer.decoding.length_penalty import length_penalty
from transformer.inspection.tokens import Texts

KEPT, PRUNED = "kept", "pruned"
ENDED, TOO_LATE = "ended", "ended, but ranked below the beam"
CUT_OFF, BEATEN = "cut off at the limit", "dropped: no live hypothesis could still win"


class Candidate(NamedTuple):
    """One continuation of a live hypothesis."""

    parent: int
    """The index of the live hypothesis in the previous step's `nodes`; 0 in the first step."""
    text: str
    log_prob: float
    total: float
    score: float
    """`total` divided by the length penalty."""
    fate: str
    """What became of the candidate: one of the constants above, such as "kept" or "pruned"."""


@dataclass
class Node:
    """A hypothesis that is alive after a step."""

    tokens: tuple[int, ...]
    parent: int
    text: str
    log_prob: float
    total: float
    lane: int = -1
    """The height at which the page draws the hypothesis."""


class Ending(NamedTuple):
    """A complete hypothesis.

    If the hypothesis ends in EOS, it is drawn in the lane of its parent, to which EOS was added. If the
    length limit cut it off, it keeps its own lane.
    """

    tokens: tuple[int, ...]
    is_end: bool
    """Whether the hypothesis ends in EOS; otherwise the length limit has cut it off."""
    parent: int
    lane: int
    score: float
    place: int | None
    """The rank in the final list of finished hypotheses, from 0; None if it is not in the list."""


@dataclass
class Step:
    """One step of the search."""

    penalty: float
    """The length penalty of the hypotheses that this step creates."""
    candidates: list[Candidate]
    nodes: list[Node]
    endings: list[Ending]
    margin: float | None
    """log p of the winner's token minus log p of the best other token; None once the winner is complete."""
    runner_up: str
    """The text of the best other token; empty once the winner is complete."""


class Finished(NamedTuple):
    """A complete hypothesis at the end of the search."""

    tokens: tuple[int, ...]
    text: str
    total: float
    score: float


class Path(NamedTuple):
    """An output with which the search is compared, such as greedy search's output or the reference."""

    name: str
    tokens: tuple[int, ...]
    text: str
    pieces: list[str]
    log_probs: list[float]
    lost_at: int | None
    """The number of the step that dropped the output; None if the search kept it to its end."""
    fate: str
    """How the output ended or, if a step dropped the output, the reason."""


@dataclass(frozen=True)
class SearchRecord:
    """The beam search for one sentence."""

    beam_size: int
    alpha: float
    steps: list[Step]
    finished: list[Finished]
    closed: str
    """Why the search ended."""
    paths: list[Path]

    @property
    def winner(self) -> tuple[int, ...]:
        return self.finished[0].tokens


class Recorder:
    """An observer of a beam search for a single sentence (`beam_search(…, observe=recorder)`)."""

    def __init__(self, beam_size: int, alpha: float, eos_id: int, texts: Texts) -> None:
        self.beam_size = beam_size
        self.alpha = alpha
        self.eos_id = eos_id
        self.texts = texts
        self.steps: list[BeamStep] = []

    def __call__(self, step: BeamStep) -> None:
        self.steps.append(step)

    def record(self, paths: Sequence[tuple[str, Sequence[int], list[float]]] = ()) -> SearchRecord:
        """Make the record of the whole search.

        `paths` are outputs to follow through the search, as (name, tokens, log-probabilities of the tokens).
        """
        [closed] = self.steps[-1].closed.values()
        finished = self.finished(self.steps[-1])
        steps: list[Step] = []
        for step in self.steps:
            before = steps[-1].nodes if steps else [Node((), 0, "", 0.0, 0.0, 0)]
            steps.append(self.step(step, before, finished))
        followed = [self.follow(name, tuple(tokens), log_probs) for name, tokens, log_probs in paths]
        return SearchRecord(self.beam_size, self.alpha, steps, finished, str(closed), followed)

    def finished(self, step: BeamStep) -> list[Finished]:
        """List the complete hypotheses after a step, best first."""
        rows = zip(*(part[0].tolist() for part in step.finished), strict=True)
        return [
            Finished(
                tuple(tokens[:length]),
                self.texts.output(tokens[:length]),
                score * length_penalty(length, self.alpha),
                score,
            )
            for tokens, score, length in rows
            if length
        ]

    def step(self, step: BeamStep, before: list[Node], finished: Sequence[Finished]) -> Step:
        penalty = length_penalty(step.length, self.alpha)
        live, winner = live_tokens(step), finished[0].tokens
        places = {each.tokens: place for place, each in enumerate(finished)}
        candidates, nodes, endings = [], [], []
        for tokens, total, parent, fate in self.candidates(step):
            log_prob, text = total - before[parent].total, self.texts.token(tokens[-1])
            candidates.append(Candidate(parent, text, log_prob, total, total / penalty, fate))
            if tokens in live:
                nodes.append(Node(tokens, parent, text, log_prob, total))
            if fate in (ENDED, CUT_OFF):
                score, lane = total / penalty, before[parent].lane
                endings.append(Ending(tokens, fate == ENDED, parent, lane, score, places.get(tokens)))
        give_lanes(nodes, before, winner)
        lanes = {node.tokens: node.lane for node in nodes}
        endings = [ending._replace(lane=lanes.get(ending.tokens, ending.lane)) for ending in endings]
        return Step(penalty, candidates, nodes, endings, *self.margin(step, before, winner))

    def candidates(self, step: BeamStep) -> list[tuple[tuple[int, ...], float, int, str]]:
        """List (tokens, log-probability, parent, fate) of each candidate whose probability is not 0."""
        live, closed = live_tokens(step), next(iter(step.closed.values()), None)
        rows = zip(*(part[0].tolist() for part in step.candidates), strict=True)
        return [
            (tuple(tokens), total, parent, self.fate(tuple(tokens), place, live, closed))
            for place, (tokens, total, parent) in enumerate(rows)
            if total > -math.inf
        ]

    def fate(
        self, tokens: tuple[int, ...], place: int, live: set[tuple[int, ...]], closed: Closed | None
    ) -> str:
        if tokens[-1] == self.eos_id:
            return ENDED if place < self.beam_size else TOO_LATE
        if tokens not in live:
            return PRUNED
        return {None: KEPT, Closed.LIMIT: CUT_OFF}.get(closed, BEATEN)

    def margin(
        self, step: BeamStep, before: Sequence[Node], winner: tuple[int, ...]
    ) -> tuple[float | None, str]:
        """Return the winner's lead over the most probable other token, in nats, and that token's text."""
        if step.length > len(winner):
            return None, ""
        [row] = [place for place, node in enumerate(before) if node.tokens == winner[: step.length - 1]]
        log_probs = step.log_probs[row].float()
        own = winner[step.length - 1]
        others = log_probs.clone()
        others[own] = -math.inf
        second = int(others.argmax())
        return float(log_probs[own] - log_probs[second]), self.texts.token(second)

    def follow(self, name: str, tokens: tuple[int, ...], log_probs: list[float]) -> Path:
        """Follow an output through the search, to its end or to the step that dropped it."""
        path = Path(
            name, tokens, self.texts.output(tokens), [*map(self.texts.token, tokens)], log_probs, None, ""
        )
        for number, step in enumerate(self.steps, start=1):
            fates = {prefix: (place, fate) for place, (prefix, *_, fate) in enumerate(self.candidates(step))}
            place, fate = fates.get(tokens[:number], (None, PRUNED))
            if number == len(tokens) and fate in (ENDED, CUT_OFF):
                return path._replace(fate=fate)
            if fate != KEPT:
                why = f"“{path.pieces[number - 1]}”: {fate}"
                if fate == PRUNED:
                    why = self.why_pruned(step, path, place)
                return path._replace(lost_at=number, fate=why)
        raise AssertionError("the last step closes the search, so it keeps nothing")

    def why_pruned(self, step: BeamStep, path: Path, place: int | None) -> str:
        """Say why a step dropped a path; `place` is the path's rank among the step's candidates, or None."""
        values = path.log_probs[: step.length]
        token = f"“{path.pieces[step.length - 1]}” (log p {values[-1]:.2f}, sum {sum(values):.2f})"
        if place is None:
            rank = f"was not among the {2 * self.beam_size} best candidates of this step"
        else:
            rank = f"ranked {place + 1} among the candidates of this step"
        kept = [score for score in step.after.scores[0].tolist() if score > -math.inf]
        needed = f"; the worst hypothesis kept has the sum {kept[-1]:.2f}" if kept else ""
        return f"{token} {rank}{needed}".replace("-", "−")


def live_tokens(step: BeamStep) -> set[tuple[int, ...]]:
    """Return the hypotheses that are alive after a step."""
    rows = zip(step.after.tokens[0].tolist(), step.after.scores[0].tolist(), strict=True)
    return {tuple(tokens) for tokens, score in rows if score > -math.inf}


def give_lanes(nodes: list[Node], before: Sequence[Node], winner: tuple[int, ...]) -> None:
    """Give the winner lane 0, and any other hypothesis its parent's lane or, if taken, the first free one.

    If a hypothesis has several continuations, the best continuation gets its lane. Once the winner is
    complete, lane 0 stays empty, so the hypotheses may need one lane more than the beam size.
    """
    taken = {0}
    waiting = []
    for node in nodes:  # best first
        if node.tokens == winner[: len(node.tokens)]:
            node.lane = 0
        elif before[node.parent].lane not in taken:
            node.lane = before[node.parent].lane
            taken.add(node.lane)
        else:
            waiting.append(node)
    for node in waiting:
        node.lane = min(lane for lane in range(len(taken) + 1) if lane not in taken)
        taken.add(node.lane)
