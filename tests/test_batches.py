"""An epoch contains each pair once, in batches within the token budget, in an order that can be resumed."""

import hashlib
from itertools import islice, pairwise

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.batches import Batch, TokenBatches
from transformer.data.masking import MaskedBatch
from transformer.data.running_text import TextBatch
from transformer.data.sentences import LabelledBatch
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def tokenized(lengths):
    """A table as `tokenize_pairs` returns it, with sides of these lengths; the token ids identify the row."""
    rows = enumerate(lengths)
    sides = [
        ([4 + row, *range(100, 98 + src), EOS_ID][-src:], [4 + row] * (tgt - 1) + [EOS_ID])
        for row, (src, tgt) in rows
    ]
    ids = datasets.Sequence(datasets.Value("int32"))
    return datasets.Dataset.from_dict(
        {
            "src": [src for src, _ in sides],
            "tgt": [tgt for _, tgt in sides],
            "line": [2 * row + 1 for row in range(len(sides))],
        },
        features=datasets.Features(src=ids, tgt=ids, line=datasets.Value("int64")),
    )


def random_lengths(count):
    generator = np.random.default_rng(0)
    src = generator.integers(2, 30, count)
    return list(
        zip(src.tolist(), np.maximum(2, src + generator.integers(-3, 4, count)).tolist(), strict=True)
    )


LENGTHS = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=60)


@given(LENGTHS, st.integers(20, 100), st.integers(0, 3), st.booleans())
def test_an_epoch_has_every_row_once_within_the_budget(lengths, budget, number, shuffle):
    batches = TokenBatches(tokenized(lengths), tokens_per_batch=budget, seed=1, shuffle=shuffle)
    plan = batches.epoch(number)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for rows in plan:
        assert len(rows) * max(max(lengths[row]) for row in rows) <= budget


@given(LENGTHS)
def test_a_batch_is_as_large_as_the_budget_allows(lengths):
    """Each batch is full: not even the shortest row of the next one would fit into it."""
    plan = TokenBatches(tokenized(lengths), tokens_per_batch=60, seed=1, shuffle=False).epoch(0)
    for rows, following in pairwise(plan):
        assert (len(rows) + 1) * min(max(lengths[row]) for row in following) > 60


def test_the_order_is_a_function_of_seed_and_epoch():
    table = tokenized(random_lengths(200))

    def order(seed, number, shuffle=True):
        batches = TokenBatches(table, tokens_per_batch=100, seed=seed, shuffle=shuffle)
        return [rows.tolist() for rows in batches.epoch(number)]

    assert order(1, 0) == order(1, 0)
    assert len({str(order(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4
    assert order(1, 0, shuffle=False) == order(2, 5, shuffle=False)
    as_sets = [{frozenset(rows) for rows in order(1, number)} for number in (0, 1)]
    assert as_sets[0] != as_sets[1]  # pairs of equal length are grouped differently in the next epoch


@given(LENGTHS, st.integers(0, 3))
def test_pairs_are_ordered_by_the_longer_side_then_by_the_shorter_one_then_at_random(lengths, number):
    batches = TokenBatches(tokenized(lengths), tokens_per_batch=100, seed=1)
    src, tgt = np.array(lengths).T
    longer = np.maximum(src, tgt)
    ties = np.random.default_rng((1, number)).permutation(len(lengths))
    expected = np.lexsort((ties, np.where(longer % 2, src - tgt, tgt - src), longer))
    assert batches.by_length(ties).tolist() == expected.tolist()


def test_the_order_is_the_same_for_lengths_of_more_than_16_bits():
    batches = TokenBatches(tokenized([(40_000, 2), (3, 40_001), (2, 2)]), tokens_per_batch=50_000, seed=1)
    assert batches.by_length(np.arange(3)).tolist() == [2, 0, 1]


def test_a_batch_is_padded_on_the_right():
    batch = TokenBatches(tokenized([(3, 2), (2, 4)]), tokens_per_batch=8, seed=1, shuffle=False).fetch(
        np.arange(2)
    )
    assert batch.src_tokens.tolist() == [[4, 100, EOS_ID], [5, EOS_ID, PAD_ID]]
    assert batch.tgt_tokens.tolist() == [[BOS_ID, 4, EOS_ID, PAD_ID, PAD_ID], [BOS_ID, 5, 5, 5, EOS_ID]]
    assert batch.src_tokens.dtype == batch.tgt_tokens.dtype == torch.int64
    assert batch.lines.tolist() == [1, 3]
    assert batch.target_tokens == 6
    assert batch.to("meta").src_tokens.device.type == "meta"


@given(LENGTHS)
def test_a_pass_gives_back_the_table(lengths):
    table = tokenized(lengths)
    batches = TokenBatches(table, tokens_per_batch=40, seed=3)
    seen = {}
    for batch in batches.one_pass():
        assert batch.target_tokens == int((batch.tgt_tokens[:, 1:] != PAD_ID).sum())
        for src, tgt, line in zip(batch.src_tokens, batch.tgt_tokens, batch.lines, strict=True):
            assert tgt[0] == BOS_ID
            seen[int(line)] = (src[src != PAD_ID].tolist(), tgt[1:][tgt[1:] != PAD_ID].tolist())
    assert seen == {row["line"]: (row["src"], row["tgt"]) for row in table}
    assert batches.state_dict() == {"epoch": 0, "next_batch": 0}


STORED = {
    "in memory": lambda table, _: table,
    "in two places": lambda table, _: datasets.concatenate_datasets(
        [table.select(range(90)), tokenized(random_lengths(7))]
    ),
    "on disk": lambda table, folder: on_disk(table, folder),
    "a slice on disk": lambda table, folder: on_disk(table, folder).select(range(33, 77)),
    "in another order": lambda table, folder: on_disk(table, folder).select([50, 3, 99, 7, 8, 51]),
}


def on_disk(table, folder):
    """The table mapped from a file, in chunks of ten rows."""
    return table.map(None, writer_batch_size=10, cache_file_name=str(folder / "table.arrow"))


@pytest.mark.parametrize("stored", STORED)
def test_a_batch_is_made_of_rows_wherever_the_table_is(tmp_path, stored):
    table = STORED[stored](tokenized(random_lengths(100)), tmp_path)
    batches = TokenBatches(table, tokens_per_batch=200, seed=1)
    for rows in batches.epoch(0):
        batch, expected = batches.fetch(rows), table[rows.tolist()]
        assert [row[row != PAD_ID].tolist() for row in batch.src_tokens] == expected["src"]
        assert [row[row != PAD_ID].tolist() for row in batch.tgt_tokens[:, 1:]] == expected["tgt"]
        assert batch.lines.tolist() == expected["line"]


@pytest.mark.parametrize("stored", STORED)
def test_the_fingerprint_is_a_hash_of_all_lengths_and_tokens(tmp_path, stored):
    """Checkpoints hold it, so where a table is, and how it is cut into chunks, must not change it."""
    table = STORED[stored](tokenized(random_lengths(100)), tmp_path)
    digest = hashlib.sha256()
    for column in ("src", "tgt"):
        rows = table[:][column]
        digest.update(np.array([len(row) for row in rows], dtype=np.int32).tobytes())
        digest.update(np.concatenate([np.array(row, dtype=np.int32) for row in rows]).tobytes())
    assert TokenBatches(table, tokens_per_batch=200, seed=1).fingerprint == digest.hexdigest()


@pytest.mark.parametrize("rows", [range(100), [50, 3, 99, 7, 8, 51]], ids=["whole", "some rows"])
def test_a_table_on_disk_is_not_copied_into_memory(tmp_path, rows):
    table = on_disk(tokenized(random_lengths(100)), tmp_path).select(rows)
    assert table.data.column("src").num_chunks == 10
    before = pa.total_allocated_bytes()
    batches = TokenBatches(table, tokens_per_batch=200, seed=1)
    assert pa.total_allocated_bytes() == before
    assert batches.pairs.src.elements.values.base is not None


def test_processes_share_a_pass():
    batches = TokenBatches(tokenized(random_lengths(40)), tokens_per_batch=100, seed=1)
    whole = [batch.lines.tolist() for batch in batches.one_pass()]
    for size in (2, 3, len(whole) + 1):
        shares = [[batch.lines.tolist() for batch in batches.one_pass(rank, size)] for rank in range(size)]
        counts = [len(share) for share in shares]
        assert max(counts) - min(counts) <= 1
        assert sorted(line for share in shares for line in share) == sorted(whole)


def test_a_restored_position_continues_identically_from_every_batch():
    table = tokenized(random_lengths(40))

    def new():
        return TokenBatches(table, tokens_per_batch=100, seed=1)

    going = new()
    states, expected = [], []
    for _ in range(3 * len(going.epoch(0))):
        states.append(going.state_dict())
        expected.append(next(going).lines.tolist())
    for position, state in enumerate(states):
        for resumed in (new(), going):  # a new iterator, and one at another position
            resumed.load_state_dict(state)
            following = expected[position : position + 4]
            assert [batch.lines.tolist() for batch in islice(resumed, len(following))] == following


def test_the_iterator_follows_the_epochs():
    batches = TokenBatches(tokenized(random_lengths(40)), tokens_per_batch=100, seed=1)
    planned = [rows for number in range(3) for rows in batches.epoch(number)]
    for rows, batch in zip(planned, batches, strict=False):
        assert batch.lines.tolist() == (2 * rows + 1).tolist()


def test_a_pair_that_fits_into_no_batch_is_named():
    table = tokenized([(2, 2), (2, 30), (3, 3)])
    with pytest.raises(
        ValueError, match=r"tokens_per_batch is 20, but the pair on line 3 has 30 tokens; raise it"
    ):
        TokenBatches(table, tokens_per_batch=20, seed=1)
    TokenBatches(table, tokens_per_batch=30, seed=1)


def test_a_table_without_pairs_is_refused():
    with pytest.raises(ValueError, match="no pairs are left"):
        TokenBatches(tokenized([(2, 2)]).select([]), tokens_per_batch=20, seed=1)


def test_little_of_a_batch_is_padding():
    lengths = random_lengths(5_000)
    batches = TokenBatches(tokenized(lengths), tokens_per_batch=2_000, seed=1)
    for side in (0, 1):
        padded = sum(len(rows) * max(lengths[row][side] for row in rows) for rows in batches.epoch(0))
        assert sum(length[side] for length in lengths) / padded > 0.92


TOKENS = torch.ones(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "tensors"),
    [
        (Batch(TOKENS, TOKENS, np.arange(2), 4), 2),
        (MaskedBatch(TOKENS, TOKENS[0], TOKENS[0]), 3),
        (TextBatch(TOKENS, 4), 1),
        (LabelledBatch(TOKENS, TOKENS[:, 0], 2), 2),
    ],
    ids=["pairs", "masked", "text", "labelled"],
)
def test_nobody_waits_until_a_gpu_has_copied_a_batch(monkeypatch, batch, tensors):
    """A copy to a GPU is asynchronous only from pinned memory and with `non_blocking=True`."""
    pinned, asked = [], []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_, **options: asked.append(options) or tensor)
    batch.to("cuda:0")
    assert len(pinned) == tensors
    assert asked == [{"non_blocking": True}] * tensors
    batch.to("cpu")
    assert asked[tensors:] == [{}] * tensors  # a copy back to the CPU must wait
