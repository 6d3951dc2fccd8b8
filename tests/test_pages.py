"""The classes that docs/extending.md and docs/custom_training.md define compute what the pages say."""

import ast
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, random_rows, right_padded, tiny_config, tiny_model
from test_examples import PAGES, programs

from transformer.data.batches import Batch
from transformer.model.decoder import Decoder
from transformer.tasks.translation import TranslationLoss
from transformer.testing import assert_transformer_contract


@pytest.fixture(scope="module")
def defined() -> dict[str, Any]:
    """Everything that the pages import and define, by name; nothing else in them is run."""
    names: dict[str, Any] = {"__name__": __name__}
    kinds = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef
    for page in PAGES:
        body = [node for node in ast.parse(programs(page)).body if isinstance(node, kinds)]
        exec(compile(ast.Module(body, type_ignores=[]), page, "exec"), names)
    return names


@pytest.fixture
def batch() -> Batch:
    tgt_tokens = right_padded(random_rows(4, 6, first=1))
    return Batch(
        right_padded(random_rows(5, 3)), tgt_tokens, np.arange(2), int((tgt_tokens[:, 1:] != 0).sum())
    )


# The model


def test_a_token_goes_to_the_expert_that_the_router_prefers(defined: dict[str, Any]) -> None:
    experts = defined["Experts"](4, 8, count=3)
    x = torch.randn(2, 5, 4)
    outputs = experts(x)
    probabilities = experts.router(x).softmax(dim=-1)
    for row, position in np.ndindex(2, 5):
        best = int(probabilities[row, position].argmax())
        expected = probabilities[row, position, best] * experts.experts[best](x)[row, position]
        assert_close(outputs[row, position], expected)
    with torch.no_grad():
        experts.router.weight.zero_()
    experts(x)
    assert float(experts.balance.detach()) == pytest.approx(1)  # equal probabilities: 3 × (1 × 1/3)


@pytest.mark.parametrize("kind", ["decoder_only"])
def test_linear_attention_keeps_the_contract_where_rows_are_equally_long(
    defined: dict[str, Any], kind: Any
) -> None:
    model = defined["LinearBuilder"](tiny_config(kind=kind)).build().eval()
    tokens = torch.tensor([[1, 8, 9, 5, 6, 7], [1, 4, 5, 6, 9, 9]])
    expected = model(tokens)
    for chunks in ([1] * 6, [4, 1, 1], [2, 4]):
        state = model.new_state(2, 6)
        assert_close(
            torch.cat([model.decoder(part, state=state) for part in move(tokens, chunks, state)], 1),
            model.decoder(tokens),
        )
    swapped = torch.tensor([1, 0, 1])
    _, state = model.prefill(tokens[:, :5], max_length=2)
    assert_close(model.step(tokens[swapped, 5], state.select(swapped)), expected[swapped, 5])
    assert isinstance(model.decoder, Decoder)


def move(tokens: torch.Tensor, chunks: list[int], state: Any) -> Any:
    """Yields the chunks, and counts each as read afterwards."""
    for part in tokens.split(chunks, dim=1):
        yield part
        state.advance(part.shape[1])


def test_linear_attention_is_its_formula(defined: dict[str, Any]) -> None:
    attention = defined["LinearAttention"](16, 2)
    x = torch.randn(1, 4, 16)
    sums = defined["RunningSums"]().append(attention.project_kv(x), torch.arange(4)[None])
    q, k = (F.elu(attention.split_heads(w(x))) + 1 for w in (attention.w_q, attention.w_k))
    weights = (q @ k.mT).tril()
    mixed = weights / weights.sum(dim=-1, keepdim=True) @ attention.split_heads(attention.w_v(x))
    assert_close(attention(x, sums), attention.w_o(attention.merge_heads(mixed)))


@pytest.mark.parametrize("name", ["SandwichBuilder", "Shared", "OwnSource"])
@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only", "encoder_only"])
def test_the_other_builders_keep_the_contract(name: str, kind: Any, defined: dict[str, Any]) -> None:
    assert_transformer_contract(defined[name](tiny_config(kind=kind)).build())


# Losses


def test_the_variants_of_the_loss_are_their_formulas(defined: dict[str, Any], batch: Batch) -> None:
    model = tiny_model()
    logits = model(batch.src_tokens, batch.tgt_tokens[:, :-1]).detach().double()
    labels = batch.tgt_tokens[:, 1:]
    log_probs = logits.log_softmax(dim=-1)[labels != 0]
    gold = log_probs.gather(1, labels[labels != 0][:, None])[:, 0]
    others = (log_probs.sum(dim=1) - gold) / (log_probs.shape[1] - 1)
    smoothed = float(defined["OtherClasses"](0.1)(model, batch).total.detach())
    assert smoothed == pytest.approx(float(-(0.9 * gold + 0.1 * others).sum()), rel=1e-5)
    focal = float(defined["focal_loss"](model, batch).total.detach())
    assert focal == pytest.approx(float(-((1 - gold.exp()) ** 2 * gold).sum()), rel=1e-5)


def test_the_balance_of_experts_is_added_per_token(defined: dict[str, Any], batch: Batch) -> None:
    model = defined["ExpertBuilder"](tiny_config()).build()
    plain = TranslationLoss(0.0)(model, batch)
    loss = defined["Balanced"](0.0, weight=0.5)(model, batch)
    balance = sum(float(m.balance.detach()) for m in model.modules() if hasattr(m, "balance"))
    assert balance > 0
    expected = float(plain.total.detach()) + 0.5 * batch.target_tokens * balance
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    loss.total.backward()
    assert all(m.router.weight.grad is not None for m in model.modules() if hasattr(m, "router"))


def test_scheduled_sampling_replaces_inputs_by_guesses(defined: dict[str, Any], batch: Batch) -> None:
    inputs: list[torch.Tensor] = []
    model = tiny_model()
    model.register_forward_pre_hook(lambda _, tokens: inputs.append(tokens[1]))
    make = defined["ScheduledSampling"]
    assert_close(make(0.1).at(0)(model, batch).total, TranslationLoss(0.1)(model, batch).total)
    inputs.clear()
    make(0.1, share=1.0)(model, batch)
    given, mixed = inputs
    guesses = model(batch.src_tokens, given).argmax(dim=-1)
    is_word = given > 3
    assert torch.equal(mixed[:, 1:][is_word[:, 1:]], guesses[:, :-1][is_word[:, 1:]])
    assert torch.equal(mixed[~is_word], given[~is_word])
