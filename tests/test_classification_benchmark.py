"""benchmarks/classification.py and retrieval.py: encoders that start from a masked language model."""

import lzma
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import transformer

ROOT = Path(__file__).parents[1]
WORDS = [
    "who",
    "made",
    "the",
    "first",
    "red",
    "house",
    "in",
    "the",
    "old",
    "town",
    "near",
    "a",
    "river",
    "and",
    "why",
]
LINES = [" ".join(WORDS[start : start + length]) for start in range(8) for length in range(3, 7)]


@pytest.fixture
def masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny masked language model, and texts of TREC and of Multi30k in the folder `data` next to it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    text = tmp_path / "data/english.txt"
    for folder in ("trec", "multi30k"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    text.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    labelled = [f"{('HUM', 'LOC')[number % 2]}:x {line}" for number, line in enumerate(LINES)]
    for part in ("train", "test"):
        (tmp_path / f"data/trec/{part}.txt").write_text("\n".join(labelled) + "\n", encoding="utf-8")
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            (tmp_path / f"data/multi30k/{part}.{language}").write_text("\n".join(LINES), encoding="utf-8")
    settings = transformer.load_settings(ROOT / "configs/english_masked.yaml")
    size = {"d_model": 16, "d_ff": 24, "num_heads": 2, "num_layers": 1}
    return transformer.train(
        replace(
            settings,
            output=str(tmp_path / "masked"),
            model=replace(settings.model, **size),
            data=replace(settings.data, train=str(text), valid=None, vocab_size=330),
            training=replace(settings.training, max_steps=2, tokens_per_batch=200, save_every=2),
        )
    )


def test_a_classifier_starts_from_the_encoder_and_its_vocabulary(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    program = import_module("classification")
    monkeypatch.setattr(program, "FINE_TUNING", {"max_steps": 1, "warmup_steps": 1, "save_every": 1})
    monkeypatch.setattr(program, "RATES", {"trec": 1e-9})
    options = SimpleNamespace(part="test", seeds=1, start=masked)
    program.measure("trec", tmp_path / "data", tmp_path / "runs", options)
    assert "Transformer from masked" in capsys.readouterr().out
    before, after = (
        transformer.load_pretrained(run) for run in (masked, tmp_path / "runs/trec_1_from_masked")
    )
    assert after.tokenizer.digest == before.tokenizer.digest
    assert after.settings.data.classes == "HUM,LOC"
    for name, weight in after.model.encoder.named_parameters():
        torch.testing.assert_close(weight, before.model.encoder.get_parameter(name), rtol=0, atol=1e-6)


def test_retrieval_starts_from_the_encoder_too(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    program = import_module("retrieval")
    monkeypatch.setattr(
        program,
        "FINE_TUNING",
        {"max_steps": 1, "warmup_steps": 1, "learning_rate": 1e-9, "save_every": 1, "valid_every": 1},
    )
    monkeypatch.setattr(program, "DISTRACTORS", (0, 3))
    options = SimpleNamespace(part="test", output=tmp_path / "runs", start=masked)
    both = program.measure("started", options, tmp_path / "data", 1)
    assert both.shape == (2, 2, len(LINES))
    assert both[:, 0].all(), "each caption is its own translation"
    after = transformer.load_pretrained(tmp_path / "runs/started_1")
    assert after.settings.model == transformer.load_settings(masked / "config.yaml").model


def test_the_text_has_each_sentence_once_without_labels_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("TRANSFORMER_DATA", str(tmp_path))
    program = import_module("english_text")
    texts = {name: f"only in {number}\n\nin all\n" for number, name in enumerate(program.SOURCES)}
    texts |= {"trec/train.txt": "HUM:x who is it ?\n", "sst2/train.tsv": "a film\t1\nin all\t0\n"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        content = text.encode()
        (tmp_path / name).write_bytes(lzma.compress(content) if name.endswith(".xz") else content)
    first, second = (tmp_path / name for name in ("first.txt", "second.txt"))
    for output in (first, second):
        program.main([str(output)])
    expected = {f"only in {number}" for number in range(len(program.SOURCES))}
    lines = first.read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == sorted(expected | {"in all", "who is it ?", "a film"})
    assert first.read_bytes() == second.read_bytes()
