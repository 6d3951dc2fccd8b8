"""Pairs are tokenized once; the ids, and the reasons for dropped pairs, are kept on disk."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.data import tokenizing
from transformer.data.batches import TokenBatches
from transformer.data.corpus import load_parallel
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN
from transformer.data.tokenizers.custom import CustomTokenizer
from transformer.data.tokenizers.pair import PairTokenizer
from transformer.data.tokenizers.protocol import EOS_ID
from transformer.data.tokenizers.sentence_piece import SentencePieceTokenizer, train_tokenizer
from transformer.data.tokenizing import Counts, tokenize_pairs

LINES = ["the clock strikes seven", "die Uhr schlägt sieben"] * 4
PAIRS = [("a", "b"), ("", "b"), ("a", " \t"), ("\u200b", "b"), ("a", "b" * 99), ("a " * 99, ""), ("a", "c")]
"""Of these, the first and the last are kept, four are empty, and one is too long for 20 tokens."""


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(LINES, vocab_size=300, normalization="nmt_nfkc")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def parallel(pairs):
    return datasets.Dataset.from_dict({"source": [s for s, _ in pairs], "target": [t for _, t in pairs]})


def on_disk(pairs, folder):
    for side, language in enumerate(("en", "de")):
        (folder / f"text.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs))
    return load_parallel(str(folder / "text"), "en", "de")


def test_pairs_become_ids_that_end_in_eos(tokenizer):
    pairs = [("the clock", "die Uhr"), ("seven", "sieben")]
    table, counts = tokenize_pairs(parallel(pairs), tokenizer, max_tokens=20)
    assert counts == Counts(kept=2, empty=0, too_long=0)
    for row, pair in zip(table, pairs, strict=True):
        assert [row["src"], row["tgt"]] == [[*ids, EOS_ID] for ids in tokenizer.encode(pair)]
    assert table["line"][:] == [1, 2]
    assert table.features["src"].feature.dtype == "int32"


TEXTS = st.text(st.sampled_from("aeu\u200b \t"), max_size=30)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_each_pair_is_encoded_or_dropped_as_if_it_were_alone(tokenizer, pairs):
    rows, empty, too_long = [], 0, 0
    for line, pair in enumerate(pairs, start=1):
        src, tgt = ([*ids, EOS_ID] for ids in tokenizer.encode(pair))
        if not all(map(str.strip, pair)) or len(src) == 1 or len(tgt) == 1:
            empty += 1
        elif max(len(src), len(tgt)) > 9:
            too_long += 1
        else:
            rows.append({"src": src, "tgt": tgt, "line": line})
    table, counts = tokenize_pairs(parallel(pairs), tokenizer, max_tokens=9)
    assert list(table) == rows
    assert counts == Counts(len(rows), empty, too_long)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_empty_and_long_pairs_are_dropped_and_counted(tokenizer, tmp_path, place):
    table = parallel(PAIRS) if place == "memory" else on_disk(PAIRS, tmp_path)
    for _ in range(2):  # the second time from the cache
        kept, counts = tokenize_pairs(table, tokenizer, max_tokens=20)
        assert counts == Counts(kept=2, empty=4, too_long=1)
        assert kept["line"][:] == [1, 7]
        assert kept.column_names == ["src", "tgt", "line"]


def test_nothing_is_tokenized_again(tokenizer, tmp_path, monkeypatch):
    """Not even the pairs that were dropped, which are counted on each start."""
    before, counts = tokenize_pairs(on_disk(PAIRS, tmp_path), tokenizer, max_tokens=20)
    read_again = load_parallel(str(tmp_path / "text"), "en", "de")
    monkeypatch.setattr(SentencePieceTokenizer, "encode", lambda *_: pytest.fail("tokenized again"))
    after, counts_after = tokenize_pairs(read_again, tokenizer, max_tokens=20)
    assert list(after) == list(before)
    assert counts_after == counts
    fingerprints = {TokenBatches(table, tokens_per_batch=20, seed=1).fingerprint for table in (before, after)}
    assert len(fingerprints) == 1


def test_dropped_pairs_change_no_batch(tokenizer, tmp_path):
    """Batches of a text with pairs to drop equal those of the same text without them."""
    texts = [("a b " * (1 + row % 3), "c d " * (1 + row % 2)) for row in range(60)]  # 19 tokens at most
    mixed = [pair for text in texts for pair in (*PAIRS[1:6], text)]
    whole, counts = tokenize_pairs(on_disk(mixed, tmp_path), tokenizer, max_tokens=20)
    alone, _ = tokenize_pairs(parallel(texts), tokenizer, max_tokens=20)
    assert counts == Counts(60, 240, 60)
    ours, theirs = (TokenBatches(table, tokens_per_batch=60, seed=1) for table in (whole, alone))
    assert ours.fingerprint == theirs.fingerprint
    for batch, expected in zip(ours.one_pass(), theirs.one_pass(), strict=True):
        assert batch.src_tokens.equal(expected.src_tokens)
        assert batch.tgt_tokens.equal(expected.tgt_tokens)
        assert batch.lines.tolist() == (6 * expected.lines).tolist()


def test_all_pairs_may_be_dropped(tokenizer):
    table, counts = tokenize_pairs(parallel([("a", ""), (" ", "b")]), tokenizer, max_tokens=20)
    assert counts == Counts(kept=0, empty=2, too_long=0)
    assert len(table) == 0


def test_a_tokenizer_must_return_a_list_of_ids_for_each_text(tokenizer, monkeypatch):
    monkeypatch.setattr(SentencePieceTokenizer, "encode", lambda _, lines: [[4]] * (len(lines) - 1))
    with pytest.raises(ValueError, match="encoded 7 lines as 6 lists of ids"):
        tokenize_pairs(parallel(PAIRS), tokenizer, max_tokens=20)


def test_a_text_of_more_characters_than_any_sentence_has_is_too_long(tokenizer):
    """Only its beginning is tokenized, and that may have few tokens."""
    spaces = "a" + " " * (20 * MAX_CHARACTERS_PER_TOKEN)
    assert tokenize_pairs(parallel([(spaces, "b")]), tokenizer, max_tokens=20)[1] == Counts(0, 0, 1)


def test_the_longest_side_that_is_kept_has_max_tokens(tokenizer):
    table = parallel([("seven", "sieben")])
    longest = max(len(ids) + 1 for ids in tokenizer.encode(["seven", "sieben"]))
    assert tokenize_pairs(table, tokenizer, max_tokens=longest)[1] == Counts(1, 0, 0)
    assert tokenize_pairs(table, tokenizer, max_tokens=longest - 1)[1] == Counts(0, 0, 1)


def test_the_cache_on_disk_belongs_to_one_tokenizer_and_one_limit(tokenizer, tmp_path):
    for language in ("en", "de"):
        (tmp_path / f"text.{language}").write_text("".join(f"{line}\n" for line in LINES))
    table = load_parallel(str(tmp_path / "text"), "en", "de")
    other = train_tokenizer(LINES, vocab_size=290, normalization="nmt_nfkc")

    def cached(tokenizer, max_tokens):
        return tokenize_pairs(table, tokenizer, max_tokens=max_tokens)[0].cache_files[0]["filename"]

    first = cached(tokenizer, 20)
    assert cached(train_tokenizer(LINES, vocab_size=300, normalization="nmt_nfkc"), 20) == first
    assert len({first, cached(other, 20), cached(tokenizer, 21)}) == 3


@dataclass
class Letters(CustomTokenizer):
    """A tokenizer written in Python: a token for each letter."""

    first: int = 10

    @property
    def pieces(self):
        return list("....")

    def encode(self, lines):
        return [[self.first + ord(letter) for letter in line if letter != "\u200b"] for line in lines]

    def decode(self, ids):
        return ["".join(chr(number - self.first) for number in row) for row in ids]


@pytest.fixture
def cores(monkeypatch):
    """A function that sets the number of cores that are used for any number of pairs."""
    if sys.platform != "linux":
        pytest.skip("processes are started on Linux alone")
    monkeypatch.setattr(tokenizing, "WORTH_PROCESSES", 1)
    return lambda count: monkeypatch.setattr(tokenizing, "usable_cores", lambda: count)


def test_several_processes_tokenize_like_one(tmp_path, cores, monkeypatch):
    """The same rows in the same chunks, under the same key in the cache."""
    pairs = [(*PAIRS[row % 7][:1], f"{PAIRS[row % 7][1]}{row}") for row in range(100)]
    found = []
    on_disk(pairs, tmp_path)
    for count in (1, 2, 3):
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / str(count))
        cores(count)
        table, counts = tokenize_pairs(
            load_parallel(str(tmp_path / "text"), "en", "de"), Letters(), max_tokens=20
        )
        chunks = [len(chunk) for chunk in table.data.column("src").chunks]
        name = Path(table.cache_files[0]["filename"]).name
        found.append((list(table), counts, chunks, table._fingerprint, name))
    assert found[0] == found[1] == found[2]
    assert min(vars(found[0][1]).values()) > 0  # there are pairs of each kind


@dataclass
class ProcessNumbers(Letters):
    def __post_init__(self):
        self.lock = threading.Lock()  # cannot be pickled

    def encode(self, lines):
        return [[os.getpid()] for _ in lines]


@pytest.mark.filterwarnings("ignore:.*couldn't be hashed")
def test_a_tokenizer_in_python_uses_all_cores_even_if_it_cannot_be_pickled(cores):
    cores(3)
    table, _ = tokenize_pairs(parallel([("a", "b")] * 90), ProcessNumbers(), max_tokens=20)
    ids = [row["src"][0] for row in table]
    assert os.getpid() not in ids
    assert all(len(set(ids[start : start + 30])) == 1 for start in (0, 30, 60))


def test_sentence_piece_starts_its_own_threads_and_needs_no_processes(tokenizer, cores, monkeypatch):
    cores(3)
    monkeypatch.setattr(tokenizing, "Workers", lambda *_: pytest.fail("processes"))
    for threaded in (tokenizer, PairTokenizer(tokenizer, tokenizer)):
        assert tokenize_pairs(parallel(PAIRS), threaded, max_tokens=20)[1].kept == 2


def test_an_error_in_a_process_is_raised_as_it_is(cores, monkeypatch):
    cores(2)
    monkeypatch.setattr(Letters, "encode", lambda _, lines: [] if "x" in lines else [[4]] * len(lines))
    with pytest.raises(ValueError, match="encoded 5 lines as 0 lists of ids"):
        tokenize_pairs(parallel([("a", "a")] * 9 + [("x", "a")]), Letters(), max_tokens=20)


def test_a_killed_process_is_one_clear_error(cores, monkeypatch):
    cores(2)
    monkeypatch.setattr(Letters, "encode", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildProcessError, match="one of the processes that share this work was killed"):
        tokenize_pairs(parallel([("a", "a")] * 9), Letters(), max_tokens=20)


WAITING = """
import os, sys, time
from transformer.data.cores import Workers
def wait(items):
    os.write(1, b"%d\\n" % os.getpid())  # one call, so that the lines of two processes do not mix
    time.sleep(600)
Workers(wait, 2)([1, 2])
"""


def test_processes_end_with_the_one_that_has_started_them(cores):
    cores(2)
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
        process.communicate(timeout=100)  # the output ends when the last process that holds it has ended
    assert len(set(workers)) == 2
