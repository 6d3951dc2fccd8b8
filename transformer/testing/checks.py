"""The laws that `assert_transformer_contract` checks.

Each law is a generator that yields comparisons of tensors, which must hold, and remarks, which are strings.
Batches are small and sequences have at most 9 tokens, which is enough to expose a broken law.
"""

import inspect
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from transformer.decoding.beam import beam_search
from transformer.decoding.search import greedy_search
from transformer.testing.comparison import Comparison, Tolerance, largest_difference
from transformer.testing.subject import (
    Embeddings,
    ProbeBatch,
    Subject,
    left_as_found,
    offers,
    seed_everything,
)

LENGTHS, SOURCE_LENGTHS = (3, 5, 1), (6, 1, 4)
PROMPT_LENGTHS, STEPS = (2, 5, 1), 4
PASSES = 30
CHUNKINGS = ([1] * 9, [4, 1, 1, 3], [2, 7], [9])

Check = Callable[[Subject], Iterator[Comparison | str]]
Run = Callable[[ProbeBatch], Tensor]


class DoesNotApply(Exception):  # noqa: N818  (not an error)
    """The law does not apply to this kind of model; the message says why."""


class Broken(Exception):  # noqa: N818
    """A violation that is not a difference between two tensors."""


def same_again(subject: Subject) -> Iterator[Comparison | str]:
    batch = subject.batch(LENGTHS, SOURCE_LENGTHS)
    yield Comparison("a second call", subject.run(batch), subject.run(batch), is_exact=True)


def no_future_leak(subject: Subject) -> Iterator[Comparison | str]:
    """Test in two ways that no output depends on a later token.

    The gradient with respect to a later token must be exactly 0. Replacing the later tokens must not change
    the output; this second test also finds dependencies without a gradient, such as a count of tokens.
    """
    if subject.kind == "encoder_only":
        raise DoesNotApply("an encoder may look ahead")
    length = 7
    batch = subject.batch([length] * 2, SOURCE_LENGTHS[:2])
    gradients = gradients_of_outputs(subject, batch)
    if not gradients:
        yield "tested without gradients: the model does not embed its tokens with an nn.Embedding"
    for t, gradient in gradients:
        future = gradient[:, t + 1 :]
        where = f"gradient of output {t} with respect to the tokens from {t + 1} on"
        yield Comparison(where, future, torch.zeros_like(future), is_exact=True)
    yield from exchanged_futures(subject, batch, subject.run)


def exchanged_futures(subject: Subject, batch: ProbeBatch, run: Run) -> Iterator[Comparison]:
    """Compare the outputs up to each position before and after all later tokens are replaced."""
    outputs = run(batch)
    rows, length = batch.tokens.shape
    for t in range(length - 1):
        others = subject.random_rows([length - t - 1] * rows)
        exchanged = batch._replace(tokens=torch.cat((batch.tokens[:, : t + 1], others), dim=1))
        where = f"outputs up to {t} with other tokens from {t + 1} on"
        yield Comparison(where, run(exchanged)[:, : t + 1], outputs[:, : t + 1])


def gradients_of_outputs(subject: Subject, batch: ProbeBatch) -> list[tuple[int, Tensor]]:
    """Return pairs of a position t and the gradient of output t with respect to the embedded tokens.

    A gradient has shape (B, T, D). A model that embeds its tokens twice has two pairs for each t.
    """
    # cuDNN's recurrent layers have no backward pass in eval mode
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        with Embeddings(batch.tokens) as embeddings:
            outputs = subject.run(batch)
        gradients = []
        for t in range(outputs.shape[1]):
            # with random factors, because the plain sum of a LayerNorm's output is constant
            loss = (outputs[:, t] * torch.randn_like(outputs[:, t])).sum()
            for vectors in embeddings.vectors:
                [gradient] = torch.autograd.grad(loss, vectors, retain_graph=True, materialize_grads=True)
                gradients.append((t, gradient))
    return gradients


def padding_invariance(subject: Subject) -> Iterator[Comparison | str]:
    for length, source_length in zip(LENGTHS, SOURCE_LENGTHS, strict=True):
        batch = subject.batch([length], [source_length])
        padded = subject.run(subject.with_pads(batch, 3))
        yield Comparison(f"a row of {length} tokens and 3 pads", first(padded, length), subject.run(batch))


def batch_invariance(subject: Subject) -> Iterator[Comparison | str]:
    """Compare the output for each row of a ragged batch with the output for the same row in a batch of one.

    In the batch of one, the row keeps its padding, because `padding_invariance` is a separate law.
    """
    batch = subject.batch(LENGTHS, SOURCE_LENGTHS)
    together = subject.run(batch)
    for row, length in enumerate(LENGTHS):
        alone = subject.run(batch.row(row))
        yield Comparison(f"row {row}", first(together[row : row + 1], length), first(alone, length))


def no_future_leak_in_training(subject: Subject) -> Iterator[Comparison | str]:
    if subject.kind == "encoder_only":
        raise DoesNotApply("an encoder may look ahead")
    batch = subject.batch([7] * 2, SOURCE_LENGTHS[:2])
    yield from exchanged_futures(subject, batch, run_in_training(subject, batch))


def batch_invariance_in_training(subject: Subject) -> Iterator[Comparison | str]:
    """Compare each row in two batches whose other rows differ; a BatchNorm, for example, breaks this law.

    The other rows keep their lengths, so dropout draws the same random numbers for both batches.
    """
    batch = subject.batch(LENGTHS, SOURCE_LENGTHS)
    run = run_in_training(subject, batch)
    expected = run(batch)
    for row, length in enumerate(LENGTHS):
        mixed = subject.batch(LENGTHS, SOURCE_LENGTHS)
        for part, original in zip(mixed, batch, strict=True):
            if part is not None and original is not None:
                part[row] = original[row]
        found = first(run(mixed)[row : row + 1], length)
        yield Comparison(f"row {row} among other rows", found, first(expected[row : row + 1], length))


def run_in_training(subject: Subject, batch: ProbeBatch) -> Run:
    """Return a function that runs the forward pass in training mode, always with the same buffers and seed.

    Dropout is therefore the same for inputs of the same shapes. Raises `DoesNotApply` if two runs on `batch`
    differ, because the model then has a random generator or a state that cannot be reset from outside.
    """

    def run(batch: ProbeBatch) -> Tensor:
        with left_as_found(subject.model), torch.enable_grad():
            seed_everything(0)
            subject.model.train()
            return subject.run(batch).detach()

    if largest_difference([Comparison("again", run(batch), run(batch))], Tolerance()).is_allowed:
        return run
    raise DoesNotApply("in training mode, two runs with the same seed give different outputs")


def first(output: Tensor, length: int) -> Tensor:
    """Return the output at the first `length` positions, or the whole of a pooled output (B, D)."""
    return output[:, :length] if output.dim() > 2 else output


def encode_and_decode(subject: Subject) -> Iterator[Comparison | str]:
    if subject.kind != "encoder_decoder" or not offers(subject.model, "encode", "decode"):
        raise DoesNotApply("the model has no encode and decode")
    batch = subject.batch(LENGTHS, SOURCE_LENGTHS)
    decoded = subject.model.decode(batch.tokens, *subject.model.encode(batch.source))
    yield Comparison("decode(target, *encode(source))", decoded, subject.run(batch))


def any_chunking(subject: Subject) -> Iterator[Comparison | str]:
    model = subject.model
    reader = getattr(model, "decode", None) if subject.kind == "encoder_decoder" else model.forward
    takes_state = reader is not None and "state" in inspect.signature(reader).parameters
    if subject.kind == "encoder_only" or not (takes_state and offers(model, "new_state")):
        raise DoesNotApply("the model has no new_state and no argument `state`")
    batch = subject.batch([9, 9, 9], SOURCE_LENGTHS)
    expected = subject.run(batch)
    for chunking in CHUNKINGS:
        encoded = () if batch.source is None else model.encode(batch.source)
        state = model.new_state(*(encoded or (3,)), 9)
        read = model if batch.source is None else model.decode
        chunks = [read(chunk, *encoded, state=state) for chunk in torch.split(batch.tokens, chunking, dim=1)]
        yield Comparison(f"in chunks of {chunking}", torch.cat(chunks, dim=1), expected)


def prefill_and_step(subject: Subject) -> Iterator[Comparison | str]:
    prompts, batch, lengths = decoding_batch(subject)
    expected, rows = subject.run(batch), torch.arange(len(lengths))
    logits, state = subject.model.prefill(prompts, max_length=STEPS)
    for step in range(STEPS):
        where = f"step {step}" if step else "prefill"
        yield Comparison(where, logits, expected[rows, lengths - 1 + step])
        if step < STEPS - 1:
            logits = subject.model.step(batch.tokens[rows, lengths + step], state)


def select_rows(subject: Subject) -> Iterator[Comparison | str]:
    """Test that `select` can reorder and repeat rows, and that the new and the old state are independent."""
    prompts, batch, _ = decoding_batch(subject)
    model, rows = subject.model, torch.tensor([2, 0, 0, 1], device=subject.device)
    states = [model.prefill(prompts, max_length=STEPS)[1] for _ in range(2)]
    tokens = batch.tokens[:, :1].repeat(1, STEPS)
    tokens[:, 1:] = subject.random_rows([STEPS - 1] * len(tokens))
    for state in states:
        model.step(tokens[:, 0], state)
    chosen = states[0].select(rows)
    for t in range(1, STEPS - 1):
        expected = model.step(tokens[:, t], states[1])
        yield Comparison("the selected rows", model.step(tokens[rows, t], chosen), expected[rows])
        yield Comparison("the original state", model.step(tokens[:, t], states[0]), expected)


def beam_of_one(subject: Subject) -> Iterator[Comparison | str]:
    prompts, _, _ = decoding_batch(subject)
    greedy = greedy_search(subject.model, prompts, max_length=STEPS)
    beam = beam_search(subject.model, prompts, beam_size=1, alpha=0.0, max_length=STEPS)
    yield Comparison("tokens", beam.tokens, greedy.tokens, is_exact=True)
    yield Comparison("scores", beam.scores, greedy.scores)


def decoding_batch(subject: Subject) -> tuple[Tensor, ProbeBatch, Tensor]:
    """Return ragged inputs for `prefill`, the full batch for the forward pass, and the length of each row.

    A row's length is the number of its tokens that the model has read after `prefill`. The `prefill` of an
    encoder-decoder gets the source and reads only BOS of the target, so each length is 1. The `prefill` of a
    decoder-only model gets the first few tokens of each row.
    """
    if subject.kind == "encoder_only" or not offers(subject.model, "prefill", "step"):
        raise DoesNotApply("the model has no prefill and step")
    if subject.kind == "encoder_decoder":
        batch = subject.batch([STEPS] * 3, SOURCE_LENGTHS)
        assert batch.source is not None  # because this is an encoder-decoder
        return batch.source, batch, torch.ones(3, dtype=torch.int64)
    batch = subject.batch([length + STEPS - 1 for length in PROMPT_LENGTHS], ())
    lengths = torch.tensor(PROMPT_LENGTHS)
    longest = max(PROMPT_LENGTHS)
    is_pad = torch.arange(longest) >= lengths[:, None]
    prompts = batch.tokens[:, :longest].masked_fill(is_pad.to(subject.device), subject.pad_id)
    return prompts, batch, lengths


def finite_gradients(subject: Subject) -> Iterator[Comparison | str]:
    """Test that in training mode every parameter gets a finite gradient.

    The loss is a randomly weighted sum of the outputs of real tokens. A model may skip layers at random, so a
    parameter fails only if none of `PASSES` passes gives the parameter a gradient.
    """
    named = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
    if not named:
        raise DoesNotApply("no parameter requires a gradient")
    batch = subject.batch(LENGTHS, SOURCE_LENGTHS)
    subject.model.train()
    found: dict[str, Tensor] = {}
    for _ in range(PASSES):
        left = {name: parameter for name, parameter in named.items() if name not in found}
        found |= gradients_of_parameters(subject, batch, left)
        if len(found) == len(named):
            break
    missing = [name for name in named if name not in found]
    not_finite = [name for name, gradient in found.items() if not gradient.isfinite().all()]
    faults = {"no gradient reaches": missing, "not finite:": not_finite}
    if missing or not_finite:
        raise Broken("; ".join(f"{fault} {', '.join(names)}" for fault, names in faults.items() if names))
    if zero := [name for name in named if not found[name].any()]:
        yield f"exactly 0: {', '.join(zero)}"


def gradients_of_parameters(
    subject: Subject, batch: ProbeBatch, parameters: dict[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    """Return these parameters' gradients from one pass; parameters that get no gradient are left out."""
    with torch.enable_grad():
        outputs = subject.run(batch)
        rows = [first(outputs[row : row + 1], length) for row, length in enumerate(LENGTHS)]
        loss = torch.stack([(row * torch.randn_like(row)).sum() for row in rows]).sum()
        if not loss.requires_grad:
            return {}
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: gradient for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    }


CHECKS: dict[str, Check] = {
    "deterministic in eval": same_again,
    "no future leak": no_future_leak,
    "padding invariance": padding_invariance,
    "batch invariance": batch_invariance,
    "no future leak in training": no_future_leak_in_training,
    "batch invariance in training": batch_invariance_in_training,
    "encode and decode = forward": encode_and_decode,
    "any chunking of the cache = forward": any_chunking,
    "prefill and step = forward": prefill_and_step,
    "state.select": select_rows,
    "beam 1 = greedy": beam_of_one,
    "finite gradients for every parameter": finite_gradients,
}
"""The checks by name, in the order of the report."""
