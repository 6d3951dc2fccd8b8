"""A model that Marian's C++ program trains gives the same numbers there and here."""

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("_pymarian") is None,
        reason="pymarian is not installed: there is no Marian to train with (pip install pymarian)",
    ),
]


def test_log_probabilities_and_translations_are_marians(data_dir, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    marian = importlib.import_module("marian")
    marian.write_corpus(tmp_path, marian.texts(f"{data_dir}/multi30k/train"), vocab_size=2000)
    marian.train_marian(tmp_path, updates=1000, d_model=64, layers=2)
    test = marian.texts(f"{data_dir}/multi30k/test_2016_flickr", marian.LINES)
    found = marian.compare(tmp_path, "marian", test["source"], test["target"])
    assert found.largest < 2e-4
    assert found.equal == found.ended
    assert min(found.ended.values()) > 0.9 * marian.LINES
    others = marian.compare(tmp_path, "transformers", test["source"], test["target"])
    assert others.largest > 0.01  # so these lines do show the difference
