"""The examples satisfy the contract, match their formulas and run; the programs in docs/extending.md run."""

import ast
import importlib
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fork_server import python
from helpers import assert_close, count_parameters, right_padded, tiny_config

import transformer
from transformer.testing import assert_transformer_contract

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PARTS = ("rotary", "gated_feed_forward", "grouped_query", "additive_attention")
PAGES = ("extending", "custom_training")


def programs(page: str) -> str:
    """The Python programs of a page in docs/, one after the other."""
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads an example by name, with its folder on the path, as `python examples/NAME.py` does."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


LITTLE_TEXT = """
from transformer import toyland
whole = toyland.generate
toyland.generate = lambda split, size: whole(split, min(size, 2000 if split == "train" else 20))
"""
SCRIPT = """
import runpy, sys
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_example(path: Path, updates: int, folder: Path) -> str:
    """Runs an example with 2,000 sentences of toyland to train on and 20 to translate.

    With the whole text, preparing it would take most of the time.
    """
    return run("-c", LITTLE_TEXT + SCRIPT, str(path), str(updates), folder=folder)


def run(*arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python(), *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_a_page(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = (ROOT / "examples/notebook.py").read_text(encoding="utf-8")
    assert text.startswith("# %% [markdown]\n# # ")
    for long, short in (
        ("UPDATES = 1_000", "UPDATES = 4"),
        ("[:50000]", "[:300]"),
        ("vocab_size=1200", "vocab_size=350"),
    ):
        assert text.count(long) == 1
        text = text.replace(long, short)
    (tmp_path / "notebook.py").write_text(text, encoding="utf-8")
    run_example(tmp_path / "notebook.py", 4, tmp_path)
    pictures = {path.name for path in (tmp_path / "runs/notebook").glob("*.png")}
    assert pictures == {"cross.png", "encoder.png", "nearby.png"}


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only", "encoder_only"])
@pytest.mark.parametrize("name", PARTS)
def test_the_contract_holds(example: Any, name: str, kind: Any) -> None:
    assert_transformer_contract(example(name).build(tiny_config(kind=kind)))


def test_the_contract_holds_for_the_recurrent_model(example: Any) -> None:
    report = assert_transformer_contract(example("recurrent").build(tiny_config()))
    found = {result.name: result.status for result in report.results}
    apply = [name for name, status in found.items() if status == "ok"]
    assert apply == [
        "deterministic in eval",
        "no future leak",
        "padding invariance",
        "batch invariance",
        "no future leak in training",
        "batch invariance in training",
        "prefill and step = forward",
        "state.select",
        "beam 1 = greedy",
        "finite gradients for every parameter",
    ]


@pytest.mark.parametrize("name", [*PARTS, "recurrent"])
def test_attention_is_recorded(example: Any, name: str) -> None:
    model = example(name).build(tiny_config()).eval()
    src_tokens = right_padded([[5, 6, 7, 2], [5, 2]])
    with transformer.record_attention(model) as recorded, torch.no_grad():
        model(src_tokens, torch.tensor([[1, 8, 9], [1, 9, 8]]))
    assert recorded
    for weights in recorded.values():
        assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    cross = [weights for weights in recorded.values() if weights.shape[-2:] == (3, 4)]
    assert all((weights[1, :, :, 2:] == 0).all() for weights in cross)
    assert cross


def test_rotary_turns_pairs_by_the_angles_of_the_paper(example: Any) -> None:
    x = torch.randn(1, 1, 3, 6)
    positions = torch.tensor([[0, 4, 50]])
    pairs = torch.view_as_complex(x.double().unflatten(-1, (3, 2)).contiguous())
    rates = 10_000 ** (-torch.arange(0, 6, 2, dtype=torch.float64) / 6)
    angles = positions[0, :, None] * rates
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    assert_close(example("rotary").rotate(x, positions), turned.float())


def test_rotary_scores_depend_on_the_distance_alone(example: Any) -> None:
    attention = example("rotary").RotaryAttention(16, 2)
    x = torch.randn(2, 5, 16)

    def scores(start: int) -> torch.Tensor:
        positions = torch.arange(start, start + 5)[None]
        return attention.project_q(x, positions) @ attention.project_kv(x, positions).keys.mT

    assert_close(scores(300), scores(0), atol=1e-4)
    assert (
        scores(0)
        - transformer.MultiHeadAttention.project_q(attention, x)
        @ transformer.MultiHeadAttention.project_kv(attention, x).keys.mT
    ).abs().max() > 1e-2


def test_rotary_leaves_the_attention_to_the_memory_alone(example: Any) -> None:
    model = example("rotary").build(tiny_config())
    rotary = example("rotary").RotaryAttention
    assert not any(isinstance(block.cross_attention, rotary) for block in model.decoder.blocks)
    assert all(
        isinstance(block.self_attention, rotary) for block in (*model.decoder.blocks, *model.encoder.blocks)
    )


@pytest.mark.parametrize("d_ff", [24, 512, 2048])
def test_the_gated_network_is_no_larger(example: Any, d_ff: int) -> None:
    plain = transformer.FeedForward(16, d_ff, torch.relu)
    gated = example("gated_feed_forward").GatedFeedForward(16, d_ff)
    assert abs(count_parameters(gated) - count_parameters(plain)) <= d_ff + 16 + 3 * 16


def test_the_gated_network_is_its_formula(example: Any) -> None:
    network = example("gated_feed_forward").GatedFeedForward(16, 24)
    x = torch.randn(2, 3, 16)
    w_gate, w_1, w_2 = (
        w.weight.detach().double().numpy().T for w in (network.w_gate, network.w_1, network.w_2)
    )
    gate = x.double().numpy() @ w_gate
    expected = (gate / (1 + np.exp(-gate)) * (x.double().numpy() @ w_1)) @ w_2
    assert_close(network(x).detach().double(), torch.from_numpy(expected))


def test_grouped_query_attention_with_all_heads_is_the_papers(example: Any) -> None:
    ours = example("grouped_query").GroupedQueryAttention(16, 4, num_kv_heads=4)
    papers = transformer.MultiHeadAttention(16, 4)
    papers.load_state_dict(ours.state_dict())
    x, y = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    assert_close(ours(x, ours.project_kv(y)), papers(x, papers.project_kv(y)))
    assert_close(ours.weights(x, ours.project_kv(y)), papers.weights(x, papers.project_kv(y)))


def test_grouped_query_attention_is_the_papers_with_repeated_heads(example: Any) -> None:
    ours = example("grouped_query").GroupedQueryAttention(16, 4, num_kv_heads=2, d_k=3, d_v=5, bias=True)
    papers = transformer.MultiHeadAttention(16, 4, d_k=3, d_v=5, bias=True)
    copied = dict(ours.state_dict())
    for name, width in (("w_k", 3), ("w_v", 5)):
        for kind in ("weight", "bias"):
            heads = copied[f"{name}.{kind}"].unflatten(0, (2, width))
            copied[f"{name}.{kind}"] = heads[[0, 0, 1, 1]].flatten(0, 1)
    papers.load_state_dict(copied)
    x = torch.randn(2, 5, 16)
    assert_close(ours(x, ours.project_kv(x), is_causal=True), papers(x, papers.project_kv(x), is_causal=True))


def test_the_cache_shrinks_with_the_heads(example: Any) -> None:
    grouped = example("grouped_query")
    config = tiny_config(num_heads=4)
    sizes = [grouped.cache_bytes(grouped.build(config, heads), 6, 7) for heads in (4, 2, 1)]
    assert sizes == [2 * 2 * (6 + 7) * heads * 4 * 4 for heads in (4, 2, 1)]  # layers, K and V, tokens …


def test_grouped_queries_need_groups_of_one_size(example: Any) -> None:
    with pytest.raises(ValueError, match="num_heads 4 is not a multiple of num_kv_heads 3"):
        example("grouped_query").GroupedQueryAttention(16, 4, num_kv_heads=3)


def test_additive_attention_is_its_formula(example: Any) -> None:
    attention = example("additive_attention").AdditiveAttention(16, 2).double()
    x, y = torch.randn(2, 3, 16).double(), torch.randn(2, 5, 16).double()
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])[:, None, None]
    kv = attention.project_kv(y)
    weights = attention.weights(x, kv, mask=mask).detach().numpy()
    output = attention(x, kv, mask=mask).detach().numpy()
    w_q, w_k, w_v, w_o, v = (
        part.detach().numpy()
        for part in (*(getattr(attention, f"w_{name}").weight for name in "qkvo"), attention.v)
    )
    for row in range(2):
        for t in range(3):
            heads = []
            for head in range(2):
                own = slice(8 * head, 8 * head + 8)
                query = w_q[own] @ x[row, t].numpy()
                keys = range(5 if row == 0 else 2)
                scores = [v[head] @ np.tanh(query + w_k[own] @ y[row, s].numpy()) for s in keys]
                shares = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
                np.testing.assert_allclose(weights[row, head, t, : len(keys)], shares, atol=1e-12)
                heads.append(
                    sum(share * (w_v[own] @ y[row, s].numpy()) for s, share in zip(keys, shares, strict=True))
                )
            np.testing.assert_allclose(output[row, t], w_o @ np.concatenate(heads), atol=1e-12)


def test_the_recurrent_model_reads_in_any_chunks(example: Any) -> None:
    model = example("recurrent").build(tiny_config()).eval()
    src_tokens, tgt_tokens = right_padded([[5, 6, 7, 2], [5, 2]]), torch.randint(3, 13, (2, 7))
    state = model.encode(src_tokens)
    chunks = [model.read(chunk, state) for chunk in tgt_tokens.split([4, 1, 2], dim=1)]
    assert_close(torch.cat(chunks, dim=1), model(src_tokens, tgt_tokens))


@pytest.mark.parametrize("name", PARTS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    printed = run_example(ROOT / f"examples/{name}.py", 4, tmp_path)
    assert "parameters, 4 updates" in printed
    assert "The old man buys a red apple." in printed


def test_the_comparison_with_the_recurrent_model_runs(tmp_path: Path) -> None:
    printed = run_example(ROOT / "examples/recurrent.py", 4, tmp_path)
    assert "after 4 updates" in printed
    for row in (r"Transformer \| 1,076,224", r"LSTM with attention \| 1,065,976"):
        assert re.search(rf"^\| {row} \| \d\.\d{{3}} \| 0\.0 \| [\d,]+ \|$", printed, re.MULTILINE)


def test_the_own_loop_has_80_lines_without_train_and_learns(tmp_path: Path) -> None:
    path = ROOT / "examples/own_loop.py"
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 80
    nodes = list(ast.walk(ast.parse(source)))
    assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)], "it is not flat"
    assert not re.search(r"\btransformer\.train\(|transformer\.recipe", source.split('"""')[2]), (
        "it calls train()"
    )
    printed = run_example(path, 30, tmp_path)
    first, last = map(float, re.findall(r"^update (?:1|30): loss (\S+),", printed, re.MULTILINE))
    assert last < first - 1
    [valid_loss] = map(float, re.findall(r"^update 30: validation loss (\S+) on", printed, re.MULTILINE))
    assert valid_loss < math.log(1200), "no better than guessing one of 1,200 tokens"
    assert re.search(r"^The old man buys a red apple\. +\S", printed, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_run(page: str, tmp_path: Path) -> None:
    """One after the other in one process, as a reader types them."""
    run("-c", programs(page), folder=tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_each_change_takes_at_most_15_lines(page: str) -> None:
    """A class or function of a page; whole models and tasks are longer."""
    long = {
        node.name
        for node in ast.walk(ast.parse(programs(page)))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.end_lineno - node.lineno >= 15  # type: ignore[operator]
    }
    assert long <= {"Bigrams", "NumberBatches", "LengthTask", "adamw_groups"}
