"""The tokenizer preserves text where it should, and errors say why it cannot be trained or loaded."""

import hashlib
import pickle
import random
import subprocess
import sys
from importlib.util import find_spec

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import ModelConfig
from transformer.data.tokenizers import sentence_piece
from transformer.data.tokenizers.characters import CharacterTokenizer
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.data.tokenizers.marian import MarianTokenizer
from transformer.data.tokenizers.moses import MosesTokenizer
from transformer.data.tokenizers.protocol import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer.data.tokenizers.sentence_piece import (
    MAX_LINE_BYTES,
    cut_lines,
    sample_lines,
    suitable_size,
    train_tokenizer,
)

LINES = ["the clock strikes seven", "die Uhr schlägt sieben", "Zoë sees the clock"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(LINES, vocab_size=310, normalization="identity")


@given(st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"])))
@settings(max_examples=300)
def test_identity_keeps_every_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


@pytest.mark.parametrize(
    "text", ["", " ", "  two  blanks ", "\ttab\t", "<s></s><pad><unk>", "<0x41>", "a\0b", "é"]
)
def test_identity_keeps_blanks_controls_and_what_looks_like_a_token(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


def test_the_sign_for_a_space_comes_back_as_a_space(tokenizer):
    assert tokenizer.decode(tokenizer.encode(["a▁b"])) == ["a b"]


def test_normalization_is_a_setting():
    tokenizer = train_tokenizer(LINES, vocab_size=300, normalization="nmt_nfkc")
    assert tokenizer.decode(tokenizer.encode(["  ﬁve  clocks "])) == ["five clocks"]
    assert tokenizer.encode([" ", ""]) == [[], []]


def test_no_special_id_is_ever_encoded(tokenizer):
    ids = tokenizer.encode(["<s> clock </s> 東京", *LINES])
    assert not {PAD_ID, BOS_ID, EOS_ID, UNK_ID} & {number for row in ids for number in row}


def test_no_character_of_the_training_text_falls_back_to_bytes(tokenizer):
    pieces = [tokenizer.processor.id_to_piece(row) for row in tokenizer.encode(LINES)]
    assert not [piece for row in pieces for piece in row if piece.startswith("<0x")]


@given(rows=st.lists(st.lists(st.integers(0, 309), max_size=20), max_size=4))
def test_any_ids_decode_and_the_special_ones_are_skipped(tokenizer, rows):
    texts = tokenizer.decode(rows)
    assert len(texts) == len(rows)
    special = [
        [BOS_ID, *(part for number in row for part in (number, PAD_ID, UNK_ID)), EOS_ID] for row in rows
    ]
    assert tokenizer.decode(special) == texts


def test_the_special_ids_are_those_of_the_model(tokenizer):
    config = ModelConfig()
    assert (config.pad_id, config.bos_id, config.eos_id, config.unk_id) == (PAD_ID, BOS_ID, EOS_ID, UNK_ID)
    assert tokenizer.vocab_size == tokenizer.processor.vocab_size() == 310


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    assert tokenizer.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    for copy in (load_tokenizer(path), pickle.loads(pickle.dumps(tokenizer))):
        assert copy.digest == tokenizer.digest
        assert copy.encode(LINES) == tokenizer.encode(LINES)


TRAIN_IN_A_PROCESS = """
from transformer.data.tokenizers import sentence_piece
sentence_piece.TRAINING_LINES = 50
lines = (f"line {number} of {number ** 2}" for number in range(500))
print(sentence_piece.train_tokenizer(lines, vocab_size=300, normalization="nmt_nfkc").digest)
"""


def test_the_same_lines_give_the_same_model_in_every_process():
    def train() -> str:
        command = [sys.executable, "-c", TRAIN_IN_A_PROCESS]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = train()
    assert len(first.strip()) == 64
    assert train() == first


def test_a_sample_is_drawn_from_the_whole_text_without_holding_it():
    assert sample_lines(iter("abc"), 5) == ["a", "b", "c"]
    sample = [int(line) for line in sample_lines(map(str, range(10_000)), 1_000)]
    assert len(set(sample)) == 1_000
    assert abs(sum(sample) / 1_000 - 5_000) < 300  # three standard errors


def test_training_says_nothing(capfd):
    train_tokenizer(LINES, vocab_size=300, normalization="identity")
    assert capfd.readouterr() == ("", "")


def test_a_long_line_is_trained_on():
    words = random.Random(0).choices(["uhrwerk", "glocke"], k=1_500)
    tokenizer = train_tokenizer([" ".join(words)], vocab_size=285, normalization="identity")
    assert len(tokenizer.encode(["uhrwerk"])[0]) < len("uhrwerk")


@given(
    line=st.text(st.sampled_from("ab é東😀 ") | st.characters(exclude_categories=["Cs"]), max_size=60),
    most=st.integers(4, 20),
)
def test_a_long_line_is_cut_into_parts_that_leave_out_spaces_alone(line, most):
    parts = list(cut_lines(["before", line, "after"], most_bytes=max(most, 6)))
    assert (parts[0], parts[-1]) == ("before", "after")
    parts = parts[1:-1]
    assert all(len(part.encode()) <= max(most, 6) for part in parts)
    assert "".join(parts).replace(" ", "") == line.replace(" ", "")
    if len(line.encode()) <= max(most, 6):
        assert parts == [line]


def test_words_stay_whole_where_a_line_has_spaces():
    words = random.Random(0).choices(["uhrwerk", "glocke", "東京"], k=300)
    assert " ".join(cut_lines([" ".join(words)], most_bytes=20)).split(" ") == words


@pytest.mark.parametrize("text", ["uhrwerk glocke ", "東京大学"])
def test_lines_beyond_sentencepieces_limit_are_trained_on(text):
    """A text in a single line gives pieces of its words, whether it contains spaces or not."""
    line = text * (3 * MAX_LINE_BYTES // len(text.encode()))
    tokenizer = train_tokenizer([line], vocab_size=280, normalization="nmt_nfkc")
    assert len(tokenizer.encode([text])[0]) <= len(text) / 2


def test_one_text_in_place_of_lines_is_refused(tokenizer):
    marian = MarianTokenizer(*[tokenizer.processor.serialized_model_proto()] * 2, ["a"] * 5, [0] * 5)
    moses = [MosesTokenizer(tokenizer, "en", "de")] if find_spec("sacremoses") else []
    for each in (tokenizer, CharacterTokenizer("abc"), marian, *moses):
        for encode in (each.encode, each.encode_target):
            with pytest.raises(TypeError, match=r"^expected a list of strings .*; write \[text\]"):
                encode("abc")
            with pytest.raises(ValueError, match=r"^line 2 holds U\+D83D, half of a surrogate pair"):
                encode(["a", "a\ud83d"])


def test_a_vocabulary_too_large_or_too_small_names_the_limit_and_the_limit_works():
    with pytest.raises(
        ValueError, match=r"^data\.vocab_size is 5000, too large: this text fills only \d+ entries; lower"
    ):
        train_tokenizer(LINES, vocab_size=5000, normalization="identity")
    with pytest.raises(
        ValueError, match=r"^data\.vocab_size is 50, too small for this text: .* need \d+$"
    ) as caught:
        train_tokenizer(LINES, vocab_size=50, normalization="identity")
    smallest = int(str(caught.value).split()[-1])
    assert train_tokenizer(LINES, vocab_size=smallest, normalization="identity").vocab_size == smallest


@pytest.mark.parametrize("lines", [[], ["", ""], [" ", "\t"]])
def test_training_needs_text(lines):
    with pytest.raises(ValueError, match="no text to train a tokenizer on"):
        train_tokenizer(lines, vocab_size=300, normalization="nmt_nfkc")


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.model"
    with pytest.raises(ValueError, match=r"tokenizer\.model: No such file or directory; the tokenizer"):
        load_tokenizer(path)
    for damaged in (b"", b"garbage"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokenizer\.model: not a SentencePiece model"):
            load_tokenizer(path)


def test_a_vocabulary_with_other_special_ids_is_refused(tmp_path):
    path = tmp_path / "other.model"
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES), model_writer=stream, vocab_size=25, minloglevel=2
        )
    with pytest.raises(ValueError, match=r"other\.model: pad, bos, eos and unk have the ids \(-1, 1, 2, 0\)"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    "lines",
    [["a b", "b a"], ["㌔㌧㍍ﷺ"], ["".join(map(chr, range(0x4E00, 0x5500)))], LINES * 50],
    ids=["tiny", "characters that normalisation splits", "many characters", "ordinary"],
)
def test_without_a_size_the_vocabulary_suits_any_text(lines):
    tokenizer = train_tokenizer(lines, vocab_size=None, normalization="nmt_nfkc")
    assert set("".join(tokenizer.pieces)) >= set(tokenizer.decode(tokenizer.encode(lines))[0]) - {" "}


def test_the_vocabulary_grows_with_the_square_root_of_the_text(monkeypatch):
    monkeypatch.setattr(sentence_piece, "MOST_ENTRIES", 1000)
    sizes = [suitable_size(["ab cd" * 20] * count) for count in (0, 1, 100, 400)]
    assert sizes == [260, 265 + 40, 265 + 400, 1000]
