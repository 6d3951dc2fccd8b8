"""The key-value cache in cases that the contract does not cover: padding, limits, autocast, shared memories.

`test_contract.py` tests, for all variants, that decoding in chunks, or with `prefill` and `step`, equals one
forward pass, and that `select` selects rows.
"""

import pytest
import torch
from helpers import assert_close, random_rows, right_padded, tiny_model

SOURCES = random_rows(6, 3, 1)


def decode_in_chunks(model, source, target, chunks):
    memory, mask = model.encode(source)
    state = model.new_state(memory, mask, target.shape[1])
    pieces = target.split(chunks, dim=1)
    return torch.cat([model.decode(piece, memory, mask, state=state) for piece in pieces], dim=1)


def test_ragged_chunks_are_read_over_their_pads():
    """Two rows of 2 + 3 and 3 + 1 tokens; each chunk pads a different row."""
    model, source = tiny_model(), right_padded(SOURCES[:2])
    chunks = [random_rows(2, 3), random_rows(3, 1)]
    memory, mask = model.encode(source)
    state = model.new_state(memory, mask, 6)
    outputs = [model.decode(right_padded(chunk), memory, mask, state=state) for chunk in chunks]
    for row in range(2):
        lengths = [len(chunk[row]) for chunk in chunks]
        cached = torch.cat([output[row, :n] for output, n in zip(outputs, lengths, strict=True)])
        whole = model(source, torch.tensor([chunks[0][row] + chunks[1][row]] * 2))
        assert_close(cached, whole[row])


def test_a_step_reads_its_token_whatever_it_is():
    """A search may choose the pad token, which is then treated like any other token."""
    model = tiny_model(kind="decoder_only")
    tokens = torch.tensor([[5, 0, 6, 0, 7]])
    logits, state = model.prefill(tokens[:, :1], max_length=5)
    steps = [logits, *(model.step(token, state) for token in tokens[:, 1:].T)]
    assert_close(torch.stack(steps, dim=1), model(tokens))


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
def test_a_full_state_says_so(kind):
    model = tiny_model(kind=kind)
    logits, state = model.prefill(torch.tensor([[5]]), max_length=2)
    token = logits.argmax(dim=-1)
    room = 2 if kind == "encoder_decoder" else 3  # max_length includes BOS, but not a prompt
    for _ in range(room - 1):
        model.step(token, state)
    message = f"the state has room for {room} tokens and holds {room}: 1 more do not fit"
    with pytest.raises(ValueError, match=message):
        model.step(token, state)


def test_text_that_does_not_fit_leaves_the_state_as_it_was():
    model = tiny_model(kind="decoder_only")
    _, state = model.prefill(torch.tensor([[5, 6]]), max_length=1)
    with pytest.raises(ValueError, match="2 more do not fit"):
        model(torch.tensor([[7, 8]]), state=state)
    assert_close(model.step(torch.tensor([7]), state), model(torch.tensor([[5, 6, 7]]))[:, -1])


def test_a_decode_under_bfloat16_autocast_equals_one_pass():
    model, source, target = tiny_model(), right_padded(SOURCES), torch.tensor(random_rows(9, 9, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cached = decode_in_chunks(model, source, target, [4, 1, 1, 3])
        once = model(source, target)
    torch.testing.assert_close(cached, once, rtol=0.05, atol=0.1)
    torch.testing.assert_close(once.float(), model(source, target), rtol=0.1, atol=0.2)


@pytest.mark.parametrize("grad", [True, False])
def test_a_decode_runs_with_and_without_gradients(grad):
    model, source, target = tiny_model(), right_padded(SOURCES), torch.tensor(random_rows(9, 9, 9))
    with torch.set_grad_enabled(grad):
        cached = decode_in_chunks(model, source, target, [1] * 9)
    assert_close(cached.detach(), model(source, target).detach())


def test_the_memory_is_projected_once():
    model, source = tiny_model(), right_padded(SOURCES)
    projections = []
    for block in model.decoder.blocks:
        block.cross_attention.w_k.register_forward_hook(lambda *_: projections.append(1))
    _, state = model.prefill(source, max_length=4)
    for _ in range(3):
        model.step(torch.tensor([5, 5, 5]), state)
    assert len(projections) == len(model.decoder.blocks)


@pytest.mark.parametrize("has_pads", [True, False])
def test_the_beam_of_a_sentence_shares_its_memory(has_pads):
    """Six hypotheses of two sentences share two memories; an irregular selection gets one memory per row."""
    model, source = tiny_model(), right_padded(SOURCES)
    source = source if has_pads else source[:, : min(map(len, SOURCES))]
    _, state = model.prefill(source, max_length=4)
    assert (state.memory_mask is not None) == has_pads
    tokens = torch.tensor([5, 6, 7, 8, 9, 10])
    for rows in ([2, 2, 2, 0, 0, 0], [0, 1, 1, 2, 2, 2]):
        chosen = state.select(torch.tensor(rows))
        assert len(chosen.memory[0].keys) == (2 if rows[0] == 2 else 6)
        assert not has_pads or len(chosen.memory_mask) == len(chosen.memory[0].keys)
        logits = model.step(tokens, chosen)
        for row, token, found in zip(rows, tokens.tolist(), logits, strict=True):
            expected = model(source[row : row + 1], torch.tensor([[1, token]]))[0, -1]
            assert_close(found, expected)
    again = state.select(torch.tensor([2, 2, 0, 0])).select(torch.tensor([1, 0, 3, 3]))
    assert len(again.memory[0].keys) == 2
    assert_close(
        model.step(tokens[:4], again)[1], model.step(tokens[1:2], state.select(torch.tensor([2])))[0]
    )


def test_a_fresh_prompt_needs_no_mask_and_later_tokens_do():
    """Over 4,096 tokens such a mask would have 16 million elements."""
    state = tiny_model(kind="decoder_only").new_state(2, 9)
    context = state.make_room(right_padded(random_rows(4, 3)))
    assert context.is_causal
    assert context.mask is None
    state.advance(torch.tensor([4, 3]))
    context = state.make_room(right_padded(random_rows(2, 2)))
    assert not context.is_causal
    assert context.mask.shape == (2, 1, 2, 6)
