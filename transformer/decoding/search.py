"""Greedy search, sampling and beam search (§6.1) over one step protocol.

Shapes: B batch, S sentences whose search is still open, W alive hypotheses of each, V vocabulary.
Hypotheses of different sentences never meet, and a sentence whose search has closed leaves the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

PAD_ID, EOS_ID = 0, 2  # of a model that does not say its own


@runtime_checkable
class StepModel(Protocol):
    """What a search needs to know of a model: `EncoderDecoder`, `DecoderOnly`, or a researcher's own.

    The state's `select(rows)` returns the state of these rows; rows may repeat. A model may have
    attributes `pad_id` and `eos_id`; without them they are 0 and 2.
    """

    def prefill(self, tokens: Tensor, *, max_length: int) -> tuple[Tensor, Any]: ...
    def step(self, tokens: Tensor, state: Any) -> Tensor: ...


Processor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Changes a step's log-probabilities (n, V), in place or not, before a token is chosen: it gets them, the
hypotheses so far (n, T), and the rows of the batch that these belong to (n,). `processors.py` has some."""


class Hypotheses(NamedTuple):
    """N outputs for each of B rows, best first; without BOS, with EOS unless cut off at the limit.

    `scores` are log-probabilities, divided by the length penalty in beam search. Where a row has fewer
    than N outputs, the missing ones have length 0 and score -inf.
    """

    tokens: Int[Tensor, "batch n length"]
    scores: Float[Tensor, "batch n"]
    lengths: Int[Tensor, "batch n"]


def length_penalty(length: Any, alpha: float) -> Any:
    """((5 + length) / 6) ** alpha, for a number or a tensor; `length` counts EOS."""
    return ((5 + length) / 6) ** alpha


def greedy(logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
    """The most probable token of each row; of equally probable ones the first."""
    return logits.argmax(dim=-1)


def greedy_search(
    model: StepModel,
    src_tokens: Int[Tensor, "batch source"],
    *,
    max_length: int | Tensor,
    processors: Sequence[Processor] = (),
) -> Hypotheses:
    """The most probable token at each step; scores are sums of log-probabilities."""
    return generate(model, src_tokens, choose=greedy, max_length=max_length, processors=processors)


@torch.no_grad()
def generate(
    model: StepModel,
    prompts: Int[Tensor, "batch length"],
    *,
    choose: Callable[[Tensor], Tensor],
    max_length: int | Tensor,
    processors: Sequence[Processor] = (),
) -> Hypotheses:
    """Continue each prompt by tokens that `choose` picks, until EOS or the limit.

    `choose` gets (rows, V) log-probabilities, after the `processors`; `max_length` is as in `beam_search`.
    """
    pad_id, eos_id = special_ids(model)
    limits = row_limits(max_length, prompts)
    longest = int(limits.max())
    tokens = prompts.new_full((len(prompts), longest), pad_id)
    scores = torch.zeros(len(prompts), device=prompts.device)
    lengths = torch.zeros_like(limits)
    rows = torch.arange(len(prompts), device=prompts.device)

    logits, state = model.prefill(prompts, max_length=longest)
    for length in range(1, longest + 1):
        log_probs = next_log_probs(logits, tokens[rows, : length - 1], rows, processors)
        tokens[rows, length - 1] = chosen = choose(log_probs)
        scores[rows] += log_probs.gather(1, chosen[:, None])[:, 0]
        lengths[rows] = length
        has_more = (limits[rows] > length) & (scores[rows] != -torch.inf)
        going_on = ((chosen != eos_id) & has_more).nonzero()[:, 0]
        if len(going_on) == 0:
            break
        if len(going_on) < len(rows):
            rows, chosen, state = rows[going_on], chosen[going_on], state.select(going_on)
        logits = model.step(chosen, state)
    is_missing = scores == -torch.inf  # no token was left to go on with
    tokens[is_missing], lengths[is_missing] = pad_id, 0
    return Hypotheses(tokens[:, None, : int(lengths.max())], scores[:, None], lengths[:, None])


@torch.no_grad()
def beam_search(
    model: StepModel,
    src_tokens: Int[Tensor, "batch source"],
    *,
    beam_size: int,
    alpha: float,
    max_length: int | Tensor,
    n_best: int = 1,
    processors: Sequence[Processor] = (),
) -> Hypotheses:
    """The `n_best` hypotheses of each row by log-probability / length penalty.

    An end token counts only among the best `beam_size` candidates of a step, and a sentence closes when
    `beam_size` hypotheses have ended or its limit is reached; what is still alive then competes too, at
    the same normalisation. It closes earlier where nothing alive can get ahead. `beam_size` 1 is exactly
    greedy search. `max_length` is the most new tokens of a row, EOS included: a number, or one for each row.
    """
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best is {n_best}; it must be between 1 and beam_size, {beam_size}")
    pad_id, eos_id = special_ids(model)
    limits = row_limits(max_length, src_tokens)
    longest = int(limits.max())
    highest_penalty = length_penalty(limits, alpha).clamp(min=1)
    ended = Ended(src_tokens, beam_size, longest, pad_id, alpha)
    alive = Alive.start(src_tokens)

    logits, state = model.prefill(src_tokens, max_length=longest)
    for length in range(1, longest + 1):
        log_probs = next_log_probs(logits, *alive.flat(), processors)
        candidates = expand(alive, log_probs, beam_size)
        ended.keep(alive.rows, keep_ended(candidates, beam_size, eos_id))
        alive = keep_alive(alive, candidates, beam_size, eos_id)
        at_limit = limits[alive.rows] == length
        ended.keep(alive.rows[at_limit], alive.hypotheses(at_limit))
        can_win = alive.highest_score(highest_penalty) > ended.scores[alive.rows, n_best - 1]
        still_open = (~at_limit & ~ended.full(alive.rows) & can_win).nonzero()[:, 0]
        if len(still_open) == 0:
            break
        alive, parents = alive.select(still_open)
        state = state.select(parents)
        logits = model.step(alive.tokens[:, :, -1].flatten(), state)
    return ended.best(n_best)


def next_log_probs(
    logits: Tensor, tokens: Tensor, rows: Tensor, processors: Sequence[Processor]
) -> Float[Tensor, "hypotheses vocabulary"]:
    log_probs = logits.float().log_softmax(dim=-1)
    for processor in processors:
        log_probs = processor(log_probs, tokens, rows)
    return log_probs


class Candidates(NamedTuple):
    """Continuations of S sentences' alive hypotheses, best first; scores are log-probabilities."""

    tokens: Int[Tensor, "sentences n length"]
    scores: Float[Tensor, "sentences n"]
    parents: Int[Tensor, "sentences n"]  # the alive hypothesis of the sentence that each one continues


@dataclass
class Alive:
    """The hypotheses that go on: one empty one for each sentence at first, then up to `beam_size`."""

    rows: Int[Tensor, " sentences"]  # the sentences' places in the batch
    tokens: Int[Tensor, "sentences alive length"]
    scores: Float[Tensor, "sentences alive"]
    parents: Int[Tensor, "sentences alive"]  # rows of the model's state that they continue

    @classmethod
    def start(cls, src_tokens: Int[Tensor, "batch source"]) -> "Alive":
        rows = torch.arange(len(src_tokens), device=src_tokens.device)
        scores = torch.zeros(len(rows), 1, device=rows.device)
        return cls(rows, src_tokens.new_empty(len(rows), 1, 0), scores, rows[:, None])

    def flat(self) -> tuple[Int[Tensor, "hypotheses length"], Int[Tensor, " hypotheses"]]:
        """The tokens of every hypothesis and the row of the batch that it belongs to."""
        return self.tokens.flatten(0, 1), self.rows.repeat_interleave(self.scores.shape[1])

    def highest_score(self, highest_penalty: Float[Tensor, " batch"]) -> Float[Tensor, " sentences"]:
        """No hypothesis of the sentence can end with more: log-probabilities are at most 0."""
        return self.scores.amax(dim=1) / highest_penalty[self.rows]

    def hypotheses(self, chosen: Bool[Tensor, " sentences"]) -> Candidates:
        return Candidates(self.tokens[chosen], self.scores[chosen], self.parents[chosen])

    def select(self, sentences: Int[Tensor, " chosen"]) -> tuple["Alive", Int[Tensor, " states"]]:
        """These sentences alone, and the rows of the state that their hypotheses continue."""
        parents = self.parents[sentences].flatten()
        here = torch.arange(len(parents), device=parents.device).view(len(sentences), -1)
        return Alive(self.rows[sentences], self.tokens[sentences], self.scores[sentences], here), parents


def expand(alive: Alive, log_probs: Float[Tensor, "hypotheses vocabulary"], beam_size: int) -> Candidates:
    """The best 2 × `beam_size` continuations: enough to go on with even if half of them have ended."""
    count = min(2 * beam_size, log_probs.shape[1])
    best, tokens = best_first(log_probs, count)
    scores = (alive.scores[:, :, None] + best.view(*alive.scores.shape, count)).flatten(1)
    ordered = scores.sort(dim=1, descending=True, stable=True)  # (S, W × n)
    scores, order = (part[:, : 2 * beam_size] for part in ordered)
    parents = order // count
    tokens = tokens.view(len(order), -1).gather(1, order)
    return Candidates(torch.cat((take(alive.tokens, parents), tokens[:, :, None]), dim=2), scores, parents)


def best_first(
    log_probs: Float[Tensor, "rows vocabulary"], count: int
) -> tuple[Float[Tensor, "rows {count}"], Int[Tensor, "rows {count}"]]:
    """`topk` promises no order among equals: where two are best, the first comes first, as in `greedy`."""
    best, tokens = log_probs.topk(count, dim=1)
    if count > 1 and (best[:, 0] == best[:, 1]).any():
        first = greedy(log_probs)[:, None]
        best, tokens = log_probs.scatter(1, first, torch.inf).topk(count, dim=1)
        best[:, :1] = log_probs.gather(1, first)
    return best, tokens


def keep_ended(candidates: Candidates, beam_size: int, eos_id: int) -> Candidates:
    """The candidates that count as ended: EOS among the best `beam_size`; others lose every comparison."""
    best = Candidates(*(part[:, :beam_size] for part in candidates))
    return best._replace(scores=best.scores.masked_fill(best.tokens[:, :, -1] != eos_id, -torch.inf))


def keep_alive(alive: Alive, candidates: Candidates, beam_size: int, eos_id: int) -> Alive:
    """The best `beam_size` candidates that have not ended."""
    has_ended = candidates.tokens[:, :, -1] == eos_id
    room = min(beam_size, has_ended.shape[1] - alive.scores.shape[1])  # each one alive can end in one way
    order = has_ended.int().argsort(dim=1, stable=True)[:, :room]  # they come best first: keep that order
    parents = candidates.parents.gather(1, order)
    return Alive(
        alive.rows,
        take(candidates.tokens, order),
        candidates.scores.gather(1, order),
        alive.parents.gather(1, parents),
    )


class Ended:
    """The best ended hypotheses of every sentence of the batch, with normalised scores."""

    def __init__(self, src_tokens: Tensor, beam_size: int, longest: int, pad_id: int, alpha: float) -> None:
        shape = (len(src_tokens), beam_size)
        self.tokens = src_tokens.new_full((*shape, longest), pad_id)
        self.scores = torch.full(shape, -torch.inf, device=src_tokens.device)
        self.lengths = src_tokens.new_zeros(shape)
        self.pad_id = pad_id
        self.alpha = alpha

    def keep(self, rows: Int[Tensor, " sentences"], new: Candidates) -> None:
        """Add these hypotheses to their sentences' own, of which the best remain."""
        if not (new.scores > -torch.inf).any():
            return  # as in most steps
        (beam_size, longest), length = self.tokens.shape[1:], new.tokens.shape[2]
        scores = torch.cat((self.scores[rows], new.scores / length_penalty(length, self.alpha)), dim=1)
        tokens = torch.cat((self.tokens[rows], pad(new.tokens, (0, longest - length), value=self.pad_id)), 1)
        lengths = torch.cat((self.lengths[rows], torch.full_like(new.parents, length)), dim=1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores[rows] = scores[:, :beam_size]
        self.tokens[rows] = take(tokens, order[:, :beam_size])
        self.lengths[rows] = lengths.gather(1, order[:, :beam_size])

    def full(self, rows: Int[Tensor, " sentences"]) -> Bool[Tensor, " sentences"]:
        return (self.scores[rows] > -torch.inf).all(dim=1)

    def best(self, n_best: int) -> Hypotheses:
        missing = self.scores[:, :n_best] == -torch.inf
        lengths = self.lengths[:, :n_best].masked_fill(missing, 0)
        tokens = self.tokens[:, :n_best, : int(lengths.max())].masked_fill(missing[:, :, None], self.pad_id)
        return Hypotheses(tokens, self.scores[:, :n_best], lengths)


def take(
    tokens: Int[Tensor, "sentences from length"], places: Int[Tensor, "sentences to"]
) -> Int[Tensor, "sentences to length"]:
    """The hypotheses of each sentence at these places."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def special_ids(model: StepModel) -> tuple[int, int]:
    """The model's own pad and EOS, or the project's."""
    return getattr(model, "pad_id", PAD_ID), getattr(model, "eos_id", EOS_ID)


def row_limits(max_length: int | Tensor, rows: Int[Tensor, "batch length"]) -> Int[Tensor, " batch"]:
    """`max_length` for each row; `ValueError` unless there are rows and every limit is at least 1."""
    if len(rows) == 0:
        raise ValueError("there is nothing to search for: the batch has no rows")
    limits = torch.as_tensor(max_length, dtype=torch.int64, device=rows.device).expand(len(rows))
    if int(limits.min()) < 1:
        raise ValueError(f"max_length is {int(limits.min())}; it must be at least 1")
    return limits
