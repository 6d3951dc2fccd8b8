"""The methods that a search needs from a model (`StepModel`), and the searches with one hypothesis per row.

`greedy_search` continues each row with the most probable tokens, `generate` with tokens that a given function
picks. The beam search (§6.1) is in `beam.py`. Shapes: B batch, V vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.kernels.topk import best_first_by_blocks, is_faster_by_blocks, with_first
from transformer.model.padding import require_right_padded

PAD_ID, EOS_ID = 0, 2  # for a model without the attributes pad_id and eos_id


@runtime_checkable
class StepModel(Protocol):
    """The methods that a search needs from `EncoderDecoder`, `DecoderOnly` or a custom model.

    `prefill` reads a batch of sources or prompts and returns the logits of the next token and a state. `step`
    reads one more token per row. The state's `select(rows)` returns the state of these rows; rows may repeat.
    A state may also have `select_beams`, as `DecodeState` does. `select_beams` is told which rows belong to
    the same sentence, whereas `select` would have to read the row numbers to find out, which forces a
    synchronization with a GPU. For a model without the attributes `pad_id` and `eos_id`, 0 and 2 are used.
    """

    def prefill(self, tokens: Tensor, *, max_length: int) -> tuple[Tensor, Any]: ...
    def step(self, tokens: Tensor, state: Any) -> Tensor: ...


Processor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function that changes a step's log-probabilities before a token is chosen. Its arguments are the
log-probabilities (n, V), the hypotheses so far (n, T), and the row of each hypothesis in the batch (n,). The
function returns the changed log-probabilities, and may change its first argument in place. See
`processors.py`."""


class Hypotheses(NamedTuple):
    """N outputs for each of B rows, best first.

    Outputs have no BOS, and end in EOS unless they are cut off at the limit. `scores` are log-probabilities;
    beam search divides them by the length penalty. If a row has fewer than N outputs, the missing outputs
    have length 0 and score -inf.
    """

    tokens: Int[Tensor, "batch n length"]
    scores: Float[Tensor, "batch n"]
    lengths: Int[Tensor, "batch n"]


def greedy(logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
    """The most probable token of each row; if several are equally probable, the token with the lowest id."""
    return logits.max(dim=-1).indices  # `argmax` gives the same ids, but takes three times as long on a CPU


def best_first(
    log_probs: Float[Tensor, "rows vocabulary"], count: int
) -> tuple[Float[Tensor, "rows {count}"], Int[Tensor, "rows {count}"]]:
    """The `count` most probable tokens; if several tie for first, the token that `greedy` picks is first.

    `topk` does not define the order of ties, so its first token is swapped with the one that `greedy` picks.
    Otherwise, a beam of 1 could differ from greedy search.
    """
    if is_faster_by_blocks(log_probs, count):
        return best_first_by_blocks(log_probs, count)
    best, tokens = log_probs.topk(count, dim=1)
    return best, with_first(tokens, greedy(log_probs)[:, None])


def greedy_search(
    model: StepModel,
    src_tokens: Int[Tensor, "batch source"],
    *,
    max_length: int | Tensor,
    processors: Sequence[Processor] = (),
) -> Hypotheses:
    """Extend each row with the most probable token at every step; scores are sums of log-probabilities."""
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
    """Continue each prompt with tokens that `choose` picks, until EOS or the limit.

    `choose` gets the log-probabilities (rows, V) that the `processors` return, and returns a token for each
    row. `max_length` is as in `beam_search`.
    """
    pad_id, eos_id = pad_and_eos(model)
    with ready_to_search(model, prompts) as prompts:
        limits, longest = row_limits(max_length, prompts)
        found = Hypotheses(
            prompts.new_full((len(prompts), longest), pad_id),
            torch.zeros(len(prompts), device=prompts.device),
            torch.zeros_like(limits),
        )
        # `tokens`, `scores`, `rows` and `limits` have entries only for the rows whose search is still open
        tokens, scores = found.tokens.clone(), found.scores
        rows = torch.arange(len(prompts), device=prompts.device)

        logits, state = model.prefill(prompts, max_length=longest)
        for length in range(1, longest + 1):
            log_probs = next_log_probs(logits, tokens[:, : length - 1], rows, processors)
            tokens[:, length - 1] = chosen = choose(log_probs)
            scores = scores + log_probs.gather(1, chosen[:, None])[:, 0]
            has_more = (limits > length) & (scores != -torch.inf)
            read_back = torch.stack(((chosen != eos_id) & has_more, scores.isnan()))
            is_open, is_nan = read_back.tolist()  # the only device sync of a step
            if any(is_nan):
                raise no_number(int(rows[is_nan.index(True)]))
            if not all(is_open):
                found.tokens[rows], found.scores[rows], found.lengths[rows] = tokens, scores, length
                if not any(is_open):
                    break
                still_open = torch.tensor(
                    [row for row, more in enumerate(is_open) if more], device=rows.device
                )
                rows, tokens, scores, limits, chosen = (
                    part[still_open] for part in (rows, tokens, scores, limits, chosen)
                )
                state = select_beams(state, still_open[:, None], still_open)
            logits = model.step(chosen, state)
        return without_missing(found, pad_id)


def without_missing(found: Hypotheses, pad_id: int) -> Hypotheses:
    """Make outputs with the score -inf empty, trim all to the longest output, and add the dimension N = 1.

    A row gets the score -inf if at some step all tokens were forbidden.
    """
    tokens, scores, lengths = found
    is_missing = scores == -torch.inf
    tokens[is_missing], lengths[is_missing] = pad_id, 0
    return Hypotheses(tokens[:, None, : int(lengths.max())], scores[:, None], lengths[:, None])


@contextmanager
def ready_to_search(
    model: StepModel, tokens: Int[Tensor, "batch length"]
) -> Iterator[Int[Tensor, "batch length"]]:
    """Put the model in evaluation mode for the block, and yield the tokens as int64.

    In training mode, dropout would change the model from step to step. Raises `ValueError` unless the tokens
    are integers and, if the model has a `pad_id`, the rows are right-padded.
    """
    if tokens.is_floating_point():
        raise ValueError(f"tokens have type {tokens.dtype}; token ids are whole numbers, such as torch.int64")
    if hasattr(model, "pad_id"):
        require_right_padded(tokens, model.pad_id)
    with evaluation_mode(model):
        yield tokens.long()


@contextmanager
def evaluation_mode(model: object) -> Iterator[None]:
    """Put a model's modules in evaluation mode for the block; a no-op for a model that is not a module."""
    modules = all_modules(model) if isinstance(model, nn.Module) else ()
    in_training = [module for module in modules if module.training]
    for module in in_training:
        module.training = False
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


def all_modules(model: nn.Module) -> Iterable[nn.Module]:
    """Like `model.modules()`, but faster: `modules()` would take a noticeable part of each step's time."""
    found, waiting = {model: None}, [model]
    while waiting:
        for module in waiting.pop()._modules.values():
            if module is not None and module not in found:
                found[module] = None
                waiting.append(module)
    return found


def select_beams(
    state: Any, parents: Int[Tensor, "sentences beam"], sentences: Int[Tensor, " sentences"] | None
) -> Any:
    """Select the rows `parents` of a state; they are grouped by sentence, and a row may repeat.

    `sentences` are the indices of the sentences that stay in the batch; None means that all stay. If the
    state has no method `select_beams`, its `select` gets the flat list of rows.
    """
    if hasattr(state, "select_beams"):
        return state.select_beams(parents, sentences)
    return state.select(parents.flatten())


def next_log_probs(
    logits: Tensor, tokens: Tensor, rows: Tensor, processors: Sequence[Processor]
) -> Float[Tensor, "hypotheses vocabulary"]:
    log_probs = logits.float().log_softmax(dim=-1)
    for processor in processors:
        log_probs = processor(log_probs, tokens, rows)
    return log_probs


def no_number(row: int) -> ValueError:
    """The error for a row of the batch whose log-probabilities are NaN."""
    return ValueError(
        f"a log-probability of row {row} of the batch is not a number: the model's logits contain NaN or "
        "+inf or are all -inf, or a processor returned NaN"
    )


def pad_and_eos(model: StepModel) -> tuple[int, int]:
    """The pad and EOS ids of the model, or the project's defaults."""
    return getattr(model, "pad_id", PAD_ID), getattr(model, "eos_id", EOS_ID)


def row_limits(
    max_length: int | Tensor, rows: Int[Tensor, "batch length"]
) -> tuple[Int[Tensor, " batch"], int]:
    """The limit of each row, and the greatest limit.

    `max_length` must be a whole number of at least 1, or a tensor with one such number per row. Raises
    `ValueError` for any other `max_length`, or if there are no rows.
    """
    if len(rows) == 0:
        raise ValueError("there is nothing to search for: the batch has no rows")
    given = torch.as_tensor(max_length, device=rows.device)
    if given.is_floating_point() or given.is_complex() or given.shape not in ((), (1,), (len(rows),)):
        raise ValueError(
            f"max_length has type {given.dtype} and shape {tuple(given.shape)}; it must be a whole number, "
            f"or one for each of the {len(rows)} rows of the batch"
        )
    limits = given.long().expand(len(rows))
    lowest, longest = torch.stack(limits.aminmax()).tolist()
    if lowest < 1:
        raise ValueError(f"max_length is {lowest}; it must be at least 1")
    return limits, longest
