"""Beam search (§6.1), with the step protocol of `search.py`.

Shapes: B batch, S sentences whose search is still open, W live hypotheses per sentence, V vocabulary. The
sentences are searched independently, and a sentence is removed from the batch when its search closes. Each
step synchronizes with the device once, to learn which sentences close and whether any hypothesis is complete.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transformer.decoding.finished import Complete, Finished, take
from transformer.decoding.length_penalty import length_penalty, require_usable_alpha
from transformer.decoding.search import (
    Hypotheses,
    Processor,
    StepModel,
    best_first,
    next_log_probs,
    no_number,
    pad_and_eos,
    ready_to_search,
    row_limits,
    select_beams,
)


class Closed(StrEnum):
    """Why the search for a sentence's translation ended."""

    LIMIT = "its limit is reached"
    BEATEN = "no live hypothesis can still win"
    NOTHING_LEFT = "no live hypothesis is left"


OPEN, AT_LIMIT, BEATEN, NOTHING_LEFT = range(4)
NOT_A_NUMBER = -1
VERDICTS = (None, *Closed)
"""The reason for each number from `OPEN` to `NOTHING_LEFT`; None means that the sentence stays open."""


class Candidates(NamedTuple):
    """Continuations of the live hypotheses of S sentences, best first; scores are log-probabilities."""

    tokens: Int[Tensor, "sentences n length"]
    scores: Float[Tensor, "sentences n"]
    parents: Int[Tensor, "sentences n"]
    """The hypothesis that each candidate continues: its index among the sentence's live hypotheses."""


class Beam(NamedTuple):
    """The live hypotheses of the open sentences: at first one empty hypothesis each, then up to `beam_size`.

    `scores` are log-probabilities, best first; -inf where a sentence has fewer hypotheses than others.
    """

    rows: Int[Tensor, " sentences"]
    """The row of each sentence in the batch."""
    tokens: Int[Tensor, "sentences live length"]
    scores: Float[Tensor, "sentences live"]
    parents: Int[Tensor, "sentences live"]
    """The hypothesis that each hypothesis continues: its index among the hypotheses of the same sentence in
    the previous step; 0 in the first beam."""

    def flat(self) -> tuple[Int[Tensor, "hypotheses length"], Int[Tensor, " hypotheses"]]:
        """The tokens of every hypothesis and the row of the batch that it belongs to."""
        return self.tokens.flatten(0, 1), self.rows[:, None].expand(self.scores.shape).flatten()


class BeamStep(NamedTuple):
    """One step of a beam search, as an observer receives it. The observer must not modify it.

    All fields are about the S sentences that were open when the step began.
    """

    length: int
    """The number of tokens in a hypothesis after this step."""
    before: Beam
    log_probs: Float[Tensor, "hypotheses vocabulary"]
    """Log-probabilities of the next token of each hypothesis in `before`, after the processors. The
    hypotheses of a sentence are adjacent."""
    candidates: Candidates
    after: Beam
    """The hypotheses that stay alive, unless their sentence closes."""
    finished: Hypotheses
    """The complete hypotheses of each sentence so far, with normalised scores, best first: (S, n, T)."""
    closed: Mapping[int, Closed]
    """Maps the row of each sentence that closes in this step to the reason."""


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
    observe: Callable[[BeamStep], None] | None = None,
) -> Hypotheses:
    """Find the `n_best` hypotheses of each row by log-probability / length penalty (§6.1).

    A candidate that ends in EOS counts only if it is among the best `beam_size` candidates of its step. A
    sentence closes when no live hypothesis can still become one of its `n_best`, or at the sentence's limit.
    At the limit, the live hypotheses count as complete, with the same length penalty. A `beam_size` of
    1 is exactly greedy search. `max_length` is the limit in new tokens, including EOS: a number for all rows,
    or one number for each row. `observe` is called after each step. Raises `ValueError` if `n_best` is not
    between 1 and `beam_size`, or if the length penalties with this `alpha` are too large or too small for
    float32.
    """
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best is {n_best}; it must be between 1 and beam_size, {beam_size}")
    return search_n_best(
        model,
        src_tokens,
        beam_size=beam_size,
        alpha=alpha,
        max_length=max_length,
        n_best=n_best,
        processors=processors,
        observe=observe,
    )


@torch.no_grad()
def search_n_best(
    model: StepModel,
    src_tokens: Int[Tensor, "batch source"],
    *,
    beam_size: int,
    alpha: float,
    max_length: int | Tensor,
    n_best: int,
    processors: Sequence[Processor] = (),
    observe: Callable[[BeamStep], None] | None = None,
) -> Hypotheses:
    """Like `beam_search`, but `n_best` may be larger than `beam_size`.

    Hypotheses end in different steps, so a search can find more than `beam_size` complete hypotheses. The
    results for a larger `n_best` begin with the results for a smaller `n_best`.
    """
    pad_id, eos_id = pad_and_eos(model)
    with ready_to_search(model, src_tokens) as src_tokens:
        limits, longest = row_limits(max_length, src_tokens)
        require_usable_alpha(alpha, longest)
        finished = Finished(src_tokens, max(n_best, beam_size), longest, pad_id, alpha)
        live = first_beam(src_tokens)

        logits, state = model.prefill(src_tokens, max_length=longest)
        for length in range(1, longest + 1):
            log_probs = next_log_probs(logits, *live.flat(), processors)
            before, candidates = live, expand(live, log_probs, beam_size)
            live = keep_live(before, candidates, beam_size, eos_id)
            row_limit = limits[live.rows]
            complete = keep_complete(candidates, live, row_limit == length, beam_size, eos_id)
            ranking = finished.rank(live.rows, complete)
            to_beat = ranking.scores[:, n_best - 1]
            closing = why_closed(live, length, row_limit, alpha, to_beat)
            verdicts, has_complete = read_back(closing, complete, candidates, live.rows)
            if has_complete:  # usually false in the first steps
                finished.keep(live.rows, complete, ranking)
            if observe is not None:
                rows = live.rows.tolist()
                closed = {row: why for row, why in zip(rows, verdicts, strict=True) if why is not None}
                found = finished.hypotheses(live.rows)
                observe(BeamStep(length, before, log_probs, candidates, live, found, closed))
            live, sentences = keep_open(live, verdicts)
            if live.rows.shape[0] == 0:
                break
            parents = state_rows(live, sentences, before.scores.shape[1])
            state = select_beams(state, parents, sentences)
            logits = model.step(live.tokens[:, :, -1].flatten(), state)
        return finished.best(n_best)


def first_beam(src_tokens: Int[Tensor, "batch source"]) -> Beam:
    """One empty hypothesis for each sentence."""
    rows = torch.arange(src_tokens.shape[0], device=src_tokens.device)
    scores = torch.zeros(len(rows), 1, device=rows.device)
    return Beam(rows, src_tokens.new_empty(len(rows), 1, 0), scores, torch.zeros_like(rows)[:, None])


def expand(live: Beam, log_probs: Float[Tensor, "hypotheses vocabulary"], beam_size: int) -> Candidates:
    """The best 2 × `beam_size` continuations; at most half end in EOS, so at least `beam_size` do not."""
    count = min(2 * beam_size, log_probs.shape[1])
    best, tokens = best_first(log_probs, count)
    scores = (live.scores[:, :, None] + best.view(*live.scores.shape, count)).flatten(1)
    ordered = scores.sort(dim=1, descending=True, stable=True)  # (S, W × count)
    scores, order = (part[:, : 2 * beam_size] for part in ordered)
    parents = order // count
    tokens = tokens.view(len(order), -1).gather(1, order)
    return Candidates(torch.cat((take(live.tokens, parents), tokens[:, :, None]), dim=2), scores, parents)


def keep_live(live: Beam, candidates: Candidates, beam_size: int, eos_id: int) -> Beam:
    """The best `beam_size` candidates without EOS; a beam of 1 becomes empty if the best one ends in EOS.

    A beam of 1 must give the same output as greedy search, which stops at EOS. If the beam continued with the
    second-best candidate, that candidate could win under the length penalty.
    """
    has_ended = candidates.tokens[:, :, -1] == eos_id
    # each live hypothesis has at most one candidate that ends in EOS
    room = min(beam_size, has_ended.shape[1] - live.scores.shape[1])
    order = has_ended.int().argsort(dim=1, stable=True)[:, :room]  # stable: the best stay first
    scores = candidates.scores.gather(1, order)
    if beam_size == 1:
        scores = scores.masked_fill(has_ended[:, :1], -torch.inf)
    return Beam(
        live.rows,
        take(candidates.tokens, order),
        scores,
        candidates.parents.gather(1, order),
    )


def keep_complete(
    candidates: Candidates, live: Beam, is_at_limit: Bool[Tensor, " sentences"], beam_size: int, eos_id: int
) -> Complete:
    """The candidates that end in EOS, among the best `beam_size`; at the limit, also the live hypotheses."""
    tokens, scores = candidates.tokens[:, :beam_size], candidates.scores[:, :beam_size]
    ended = scores.masked_fill(tokens[:, :, -1] != eos_id, -torch.inf)
    cut_off = live.scores.masked_fill(~is_at_limit[:, None], -torch.inf)
    return Complete(torch.cat((tokens, live.tokens), dim=1), torch.cat((ended, cut_off), dim=1))


def why_closed(
    live: Beam,
    length: int,
    limits: Int[Tensor, " sentences"],
    alpha: float,
    to_beat: Float[Tensor, " sentences"],
) -> Int[Tensor, " sentences"]:
    """For each sentence, an index in `VERDICTS`: whether it closes after this step, and why.

    A hypothesis's log-probability only decreases as tokens are added. The length penalty is monotonic in the
    length, so it is greatest either at the next length or at the limit. The best live score divided by the
    greatest penalty is therefore an upper bound on the score of every continuation.
    """
    best = live.scores[:, 0]
    penalty = length_penalty(limits, alpha).clamp(min=length_penalty(length + 1, alpha))
    verdict = torch.where(best / penalty > to_beat, OPEN, BEATEN)
    verdict = verdict.masked_fill(best == -torch.inf, NOTHING_LEFT)
    return verdict.masked_fill(limits == length, AT_LIMIT)


def read_back(
    closing: Int[Tensor, " sentences"],
    complete: Complete,
    candidates: Candidates,
    rows: Int[Tensor, " sentences"],
) -> tuple[list[Closed | None], bool]:
    """Read each sentence's verdict, and whether any hypothesis is complete: the only device sync of a step.

    Raises `ValueError` if a candidate's score is NaN. Only the first candidate of each sentence is checked,
    because sorting puts NaN first.
    """
    has_complete = (complete.scores > -torch.inf).any()
    is_nan = candidates.scores[:, 0].isnan()
    verdicts = closing.masked_fill(is_nan, NOT_A_NUMBER)
    *numbers, found = torch.cat((verdicts, has_complete[None].long())).tolist()
    if NOT_A_NUMBER in numbers:
        raise no_number(int(rows[numbers.index(NOT_A_NUMBER)]))
    return [VERDICTS[number] for number in numbers], bool(found)


def keep_open(live: Beam, verdicts: Sequence[Closed | None]) -> tuple[Beam, Int[Tensor, " open"] | None]:
    """Keep the sentences that stay open; also return their indices in `live`, or None if all stay open."""
    still_open = [place for place, why in enumerate(verdicts) if why is None]
    if len(still_open) == len(verdicts):
        return live, None
    sentences = torch.tensor(still_open, dtype=torch.int64, device=live.rows.device)
    return Beam(*(part.index_select(0, sentences) for part in live)), sentences


def state_rows(live: Beam, sentences: Int[Tensor, " open"] | None, width: int) -> Int[Tensor, "open live"]:
    """The row of the model's state that each hypothesis continues; a sentence has `width` state rows."""
    if sentences is None:
        sentences = torch.arange(live.rows.shape[0], device=live.rows.device)
    return sentences[:, None] * width + live.parents
