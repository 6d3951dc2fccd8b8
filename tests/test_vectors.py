"""Files of sentence vectors can be read back, and a file that is not an index is rejected in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from transformer.data.text import CorpusError
from transformer.data.vectors import read_vectors, write_vectors

SENTENCES = ["a", "b\u2028c"]
VECTORS = np.array([[0.6, 0.8, 0], [0, 0, -1]], dtype=np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_vectors_come_back(suffix: str, tmp_path: Path) -> None:
    path, lines = f"{tmp_path}/x{suffix}", tmp_path / "lines"
    lines.write_text("".join(f"{line}\n" for line in SENTENCES), encoding="utf-8")
    write_vectors(path, SENTENCES, VECTORS)
    texts, vectors = read_vectors(path, str(lines) if suffix == ".npy" else None)
    assert texts == SENTENCES
    np.testing.assert_array_equal(vectors, VECTORS)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_vectors(str(path), SENTENCES, VECTORS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="longer"):
        write_vectors(str(path), SENTENCES[:1], VECTORS)  # fails after one line
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"x.jsonl": before}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["a", "b"], ["c", "d"]]), "x.npy: not an array of numbers"),
        (np.eye(2) * 1j, "x.npy: not an array of numbers"),
        (np.diag([1.0, 2.0]), "x.npy: vector 2 has the length 2; `transformer embed` writes vectors of"),
        (np.full((2, 3), np.nan), "x.npy: vector 1 has the length nan"),
        (np.zeros((2, 3)), "x.npy: vector 1 has the length 0"),
        (np.eye(3), r"x.npy has the shape \(3, 3\), and .* has 2 lines"),
    ],
)
def test_an_array_that_is_no_index(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "lines").write_text("a\nb\n")
    with pytest.raises(CorpusError, match=message):
        read_vectors(f"{tmp_path}/x.npy", f"{tmp_path}/lines")


def test_a_file_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    with (tmp_path / "archive.npy").open("wb") as archive:
        np.savez(archive, VECTORS)
    np.save(tmp_path / "none.npy", np.empty((0, 3)))
    for name, message in (
        ("empty", "not an array"),
        ("archive", "not an array"),
        ("none", "no vectors in it"),
    ):
        with pytest.raises(CorpusError, match=f"{name}.npy: .*{message}"):
            read_vectors(f"{tmp_path}/{name}.npy", f"{tmp_path}/empty.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no vectors in it"),
        ("[" * 100_000, "line 1: not"),
        (f'{{"text": "a", "embedding": [{10**400}]}}', "line 1: not"),
        (json.dumps({"text": "a", "embedding": [3, 4]}), "vector 1 has the length 5"),
    ],
)
def test_json_that_is_no_index(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=message):
        read_vectors(f"{tmp_path}/x.jsonl", None)


def test_sentences_are_named_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.jsonl contains its sentences; leave out --sentences lines"):
        read_vectors(f"{tmp_path}/x.jsonl", "lines")
    with pytest.raises(
        ValueError, match=r"x\.npy holds only vectors; give the file of the sentences with --sent"
    ):
        read_vectors(f"{tmp_path}/x.npy", None)


def test_the_name_that_is_given_decides_the_format_not_what_a_link_points_to(tmp_path: Path) -> None:
    vectors = np.eye(2, dtype=np.float32)
    (tmp_path / "index.npy").symlink_to(tmp_path / "store")
    write_vectors(str(tmp_path / "index.npy"), ["a", "b"], vectors)
    assert np.array_equal(np.load(tmp_path / "store"), vectors)
    assert {path.name for path in tmp_path.iterdir()} == {"index.npy", "store"}
