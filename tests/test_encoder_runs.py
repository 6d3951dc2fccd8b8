"""Encoder-only models from settings to predictions: training, resuming, the commands and their files."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from transformer import build_model, load_settings, train
from transformer.checkpoint.format import MODEL, CheckpointError
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.cli import main
from transformer.config import DataConfig, ModelConfig, Precision, Settings, TrainingConfig
from transformer.data.sentences import read_sentences
from transformer.data.text import CorpusError
from transformer.decoding.predictors import Classifier, Embedder, MaskFiller
from transformer.kernels import linear as packed
from transformer.trained import load_pretrained

COLOURS = {"red": "warm", "orange": "warm", "blue": "cold", "green": "cold"}
THINGS = ["house", "tree", "car", "hat", "cup", "door"]


def settings(output: Path, task: Any, data: dict[str, Any], **training: Any) -> Settings:
    loop = {"max_steps": 60, "warmup_steps": 15, "rate_scale": 0.3, "label_smoothing": 0.0}
    loop |= {"tokens_per_batch": 300, "valid_every": 30, "save_every": 60}
    return Settings(
        output=str(output),
        device="cpu",
        precision="float32",
        task=task,
        model=ModelConfig(kind="encoder_only", d_model=32, num_heads=2, d_ff=32, num_layers=1),
        data=DataConfig(**{"test": None, "vocab_size": 320, "max_tokens": 32, **data}),
        training=TrainingConfig(**{**loop, **training}),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences whose class is determined by their colour, and the same sentences in another word order."""
    folder = tmp_path_factory.mktemp("sentences")
    rows = [(colour, thing) for thing in THINGS for colour in COLOURS]
    (folder / "labelled").write_text(
        "".join(f"the {colour} {thing} is here\t{COLOURS[colour]}\n" for colour, thing in rows)
    )
    (folder / "plain").write_text("".join(f"the {colour} {thing} is here\n" for colour, thing in rows))
    (folder / "pairs.en").write_text("".join(f"the {colour} {thing}\n" for colour, thing in rows))
    (folder / "pairs.de").write_text("".join(f"{thing} which is {colour}\n" for colour, thing in rows))
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Path:
    data = {"train": f"{folder}/labelled[:16]", "valid": f"{folder}/labelled[16:]", "label_format": "tab"}
    return train(settings(folder / "classifier", "classification", data, max_steps=150))


@pytest.fixture(scope="module")
def masked(folder: Path) -> Path:
    data = {"train": f"{folder}/plain", "valid": f"{folder}/plain"}
    return train(settings(folder / "masked", "masked_language_model", data, max_steps=120))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Path:
    data = {"train": f"{folder}/pairs", "valid": f"{folder}/pairs"}
    return train(settings(folder / "embedder", "sentence_embedding", data))


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object, given: str = "") -> tuple[int, str, str]:
        stdin = SimpleNamespace(buffer=io.BytesIO(given.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", stdin)
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return call


# Inference


READERS = {"classifier": Classifier, "masked": MaskFiller, "embedder": Embedder}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_loaded_for_use_is_frozen_and_computes_the_same(
    name: str, precision: Precision, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "SMALLEST", 1)
    monkeypatch.setattr(packed, "SMALL", 1)
    run = request.getfixturevalue(name)
    trained = load_pretrained(run)
    reader: Any = READERS[name].from_pretrained(run, device="cpu", precision=precision)
    assert not any(parameter.requires_grad for parameter in reader.model.parameters())
    assert sum(isinstance(part, packed.PackedLinear) for part in reader.model.modules()) >= 6
    seen = []
    reader.model.encoder.register_forward_hook(lambda _, __, y: seen.append(y.is_inference()))
    sentences = reader.encode(["the red house is here", "the blue cup", "", "the green door is here now"])
    (rows, found), *rest = reader.outputs(sentences)
    (others, expected), *_ = READERS[name](*trained).outputs(sentences)
    assert not rest
    assert rows == others
    assert seen == [True]
    assert precision == "float32" or not torch.equal(found, expected)
    tolerance = {} if precision == "float32" else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(found, expected, **tolerance)


def test_a_classifier_can_be_cast_as_a_whole(classifier: Path) -> None:
    model = load_pretrained(classifier).model
    tokens = torch.tensor([[5, 6, 7, 2], [8, 2, 0, 0]])
    with torch.no_grad():
        expected = model(tokens)
        found = model.to(torch.bfloat16)(tokens)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


def test_the_commands_take_a_precision(
    classifier: Path, masked: Path, embedder: Path, tmp_path: Path, call: Any
) -> None:
    line = "the green door is here\n"
    label = call("classify", "--run", classifier, "--precision", "bfloat16", given=line)[1].split()[0]
    assert label == "cold"
    code, out, _ = call("fill-mask", "--run", masked, "--precision", "auto", given="the red <mask> is here\n")
    assert code == 0
    assert len(out.splitlines()) == 5
    vectors = []
    for precision in ("float32", "bfloat16"):
        output = tmp_path / f"{precision}.npy"
        assert (
            call("embed", "--run", embedder, "--precision", precision, "--output", output, given=line)[0] == 0
        )
        vectors.append(np.load(output))
    np.testing.assert_allclose(*vectors, atol=0.02)
    code, _, err = call("classify", "--run", classifier, "--device", "cpu", "--precision", "float16")
    assert code == 2
    assert "on a CPU choose float32, bfloat16, int8 or auto" in err


# Training


def test_a_separable_problem_is_learned(classifier: Path) -> None:
    labels = Classifier.from_pretrained(classifier).classify(
        ["the green door is here", "the red door is here"]
    )
    assert [label and label.name for label in labels] == ["cold", "warm"]
    assert load_settings(classifier / "config.yaml").data.classes == "cold,warm"


def test_evaluate_prints_what_validation_says(
    classifier: Path, masked: Path, embedder: Path, folder: Path, call: Any
) -> None:
    for run, text, names in (
        (classifier, "labelled", ["loss", "accuracy"]),
        (masked, "plain", ["loss", "perplexity", "accuracy"]),
        (embedder, "pairs", ["loss", "p@1", "p@1_reversed"]),
    ):
        code, out, _ = call("evaluate", "--run", run, "--data", folder / text, "--json")
        assert code == 0
        values = json.loads(out)
        assert list(values)[2:] == names
        table = call("evaluate", "--run", run, "--data", folder / text)[1]
        assert len(table.splitlines()) == len(names)
    assert (
        json.loads(call("evaluate", "--run", classifier, "--data", folder / "labelled", "--json")[1])[
            "accuracy"
        ]
        == 100
    )


@pytest.mark.parametrize("name", ["classifier", "masked", "embedder"])
def test_resume_is_exact(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    before = load_settings(request.getfixturevalue(name) / "config.yaml")

    def short(output: str, steps: int) -> Settings:
        training = replace(before.training, max_steps=steps, tokens_per_batch=80)
        return replace(before, output=str(tmp_path / output), training=training)

    train(short("whole", 9))
    train(short("parts", 4))
    train(short("parts", 9), resume=True)
    whole, parts = (read_tensors(Run(tmp_path / part).checkpoint(9) / MODEL) for part in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_classifier_starts_from_a_masked_language_model(masked: Path, folder: Path, tmp_path: Path) -> None:
    data = {"train": f"{folder}/labelled", "valid": None, "label_format": "tab"}
    start = settings(tmp_path / "run", "classification", data, max_steps=1, rate_scale=1e-9)
    run = train(replace(start, training=replace(start.training, start_from=str(masked))))
    assert (run / "tokenizer.model").read_bytes() == (masked / "tokenizer.model").read_bytes()
    [ours, theirs] = (load_pretrained(path).model.encoder.state_dict() for path in (run, masked))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0)
    wider = replace(start, output=str(tmp_path / "wider"), model=replace(start.model, d_ff=48))
    with pytest.raises(CheckpointError, match=r"has model\.d_ff 32, not 48; use the same value"):
        train(replace(wider, training=replace(wider.training, start_from=str(masked))))


def test_a_translation_model_starts_from_the_encoder_of_a_masked_language_model(
    masked: Path, tmp_path: Path
) -> None:
    start = settings(tmp_path / "run", None, {"valid": None}, max_steps=1, rate_scale=1e-9)
    model = replace(start.model, kind="encoder_decoder")
    data = replace(start.data, train="toyland:train[:50]")
    training = replace(start.training, start_from=str(masked))
    run = train(replace(start, model=model, data=data, training=training))
    [ours, theirs] = (load_pretrained(path).model for path in (run, masked))
    for name, value in theirs.encoder.state_dict().items():
        torch.testing.assert_close(ours.encoder.state_dict()[name], value, atol=1e-6, rtol=0)
    assert ours.decoder.embedding.embedding.weight is ours.encoder.embedding.embedding.weight


def test_masks_need_a_tokenizer_that_has_one(classifier: Path, folder: Path, tmp_path: Path) -> None:
    start = settings(tmp_path / "run", "masked_language_model", {"train": f"{folder}/plain", "valid": None})
    with pytest.raises(
        ValueError, match="its tokenizer has no <mask>; start from another run, or from scratch"
    ):
        train(replace(start, training=replace(start.training, start_from=str(classifier))))
    with pytest.raises(ValueError, match=r"set data\.tokenizer sentencepiece"):
        train(replace(start, data=replace(start.data, tokenizer="characters")))


def test_labels_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "valid").write_text("a\twarm\nb\thot\n")
    (tmp_path / "commas").write_text("a\twarm\nb\tcold, wet\n")
    data = {"train": f"{folder}/labelled", "valid": f"{tmp_path}/valid", "label_format": "tab"}
    for changes, error in (
        ({}, r"valid, line 2: the label 'hot' is not in data\.classes, cold, warm"),
        ({"train": f"{tmp_path}/commas"}, "commas, line 2: the label 'cold, wet' has a comma in it"),
        ({"classes": "warm"}, "the classes are warm; a classifier needs at least two"),
    ):
        with pytest.raises(CorpusError, match=error):
            train(settings(tmp_path / "run", "classification", data | changes))
    with pytest.raises(ValueError, match=r"data\.label_format is null; for task classification choose"):
        train(settings(tmp_path / "run", "classification", data | {"label_format": None}))


def test_a_researchers_encoder_gets_the_head(folder: Path, tmp_path: Path) -> None:
    def build(config: ModelConfig) -> torch.nn.Module:
        encoder = build_model(config)
        encoder.blocks = torch.nn.ModuleList()
        return encoder

    data = {"train": f"{folder}/labelled", "valid": None, "label_format": "tab"}
    run = train(settings(tmp_path / "run", "classification", data, max_steps=1), build=build)
    assert len(Classifier.from_pretrained(run, build=build).model.encoder.blocks) == 0
    with pytest.raises(CheckpointError, match=r"built by test_encoder_runs:.*build; pass --build"):
        Classifier.from_pretrained(run)


def test_a_run_of_another_task_is_refused(classifier: Path) -> None:
    with pytest.raises(CheckpointError, match="trained for classification; sentence_embedding is needed"):
        Embedder.from_pretrained(classifier)


# Commands


def test_classify_writes_one_line_for_each_line(classifier: Path, call: Any) -> None:
    text = "the red cup is here\n\n \t \nthe blue cup is here\n" + "red " * 100 + "\n\x01\nblue"
    code, out, _ = call("classify", "--run", classifier, given=text)
    lines = out.split("\n")[:-1]
    assert code == 0
    assert len(lines) == 7
    assert lines[1] == lines[2] == ""
    assert [line.split("\t")[0] for line in (lines[0], lines[3])] == ["warm", "cold"]
    assert all(0.5 <= float(line.split("\t")[1]) <= 1 for line in lines if line)
    alone = call("classify", "--run", classifier, given="the red cup is here\n")[1]
    assert alone == lines[0] + "\n"
    assert call("classify", "--run", classifier)[:2] == (0, "")


def test_fill_mask_prints_candidates_with_probabilities(masked: Path, call: Any) -> None:
    given = "the red car is <mask>\nthe <mask> car is <mask>\n"
    code, out, _ = call("fill-mask", "--run", masked, "--count", "3", given=given)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [row[:2] for row in rows] == [[line, mask] for line, mask in ("11", "21", "22") for _ in range(3)]
    assert rows[0][3] == "here"
    assert all(float(rows[at][2]) >= float(rows[at + 1][2]) for at in (0, 1, 3, 4))
    everything = MaskFiller.from_pretrained(masked).fill(["<mask> car"], count=10**6)[0][0]
    assert sum(candidate.probability for candidate in everything) == pytest.approx(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("<mask>\nnothing\n", "line 2 has no <mask> to fill"),
        ("<mask>" * 40, "line 1 has 41 tokens; the model reads at most 32"),
    ],
)
def test_what_cannot_be_filled(masked: Path, call: Any, given: str, message: str) -> None:
    code, _, err = call("fill-mask", "--run", masked, given=given)
    assert code == 2
    assert message in err
    assert call("fill-mask", "--run", masked, "--count", 0)[0] == 2


def test_lines_before_one_that_cannot_be_filled_are_answered(masked: Path, call: Any) -> None:
    good = "the red car is <mask>\nthe <mask> car\n"
    expected = call("fill-mask", "--run", masked, given=good)[1]
    code, out, err = call("fill-mask", "--run", masked, given=good + "nothing\n<mask>\n")
    assert (code, out) == (2, expected)
    assert "line 3 has no <mask> to fill" in err


def test_embed_and_nearest_find_each_sentence_again(
    embedder: Path, folder: Path, tmp_path: Path, call: Any
) -> None:
    text = (folder / "pairs.en").read_text()
    lines = text.splitlines()
    for name in ("x.npy", "x.jsonl"):
        assert call("embed", "--run", embedder, "--output", tmp_path / name, given=text)[:2] == (0, "")
    (tmp_path / "folder.npy").mkdir()
    code, _, error = call("embed", "--run", embedder, "--output", tmp_path / "folder.npy", given=text)
    assert (code, "folder.npy is not a plain file; choose another output" in error) == (2, True)
    vectors = np.load(tmp_path / "x.npy", allow_pickle=False)
    entries = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [entry["text"] for entry in entries] == lines
    np.testing.assert_allclose([entry["embedding"] for entry in entries], vectors, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(Embedder.from_pretrained(embedder).embed(lines[3:4])[0], vectors[3], atol=1e-5)

    options = ["--run", embedder, "--count", "2"]
    outputs = [
        call("nearest", *options, "--index", tmp_path / "x.jsonl", given=text)[1],
        call(
            *("nearest", *options, "--index", tmp_path / "x.npy", "--sentences", folder / "pairs.en"),
            given=text,
        )[1],
    ]
    assert outputs[0] == outputs[1]
    rows = [line.split("\t") for line in outputs[0].splitlines()]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 25) for _ in range(2)]
    assert [row[2] for row in rows[::2]] == lines
    assert all(float(row[1]) == pytest.approx(1, abs=1e-3) for row in rows[::2])
    assert all(float(rows[at][1]) >= float(rows[at + 1][1]) for at in range(0, 48, 2))


def test_windows_text_is_the_same_text(
    classifier: Path, masked: Path, embedder: Path, folder: Path, tmp_path: Path, call: Any
) -> None:
    """Byte order marks and line endings are not part of lines, labels, or an index and its sentences."""

    def windows(path: Path) -> Path:
        found = tmp_path / f"windows-{path.name}"
        found.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n"))
        return found

    paths = (folder / "labelled", windows(folder / "labelled"))
    for label_format in ("tab", None):
        plain, other = (read_sentences(str(path), label_format) for path in paths)
        assert [each[:2] for each in map(astuple, plain)] == [each[:2] for each in map(astuple, other)]
    text = (folder / "pairs.en").read_text()
    for suffix in (".npy", ".jsonl"):
        call("embed", "--run", embedder, "--output", tmp_path / f"x{suffix}", given=text)
    lines = windows(folder / "pairs.en")
    assert (
        call("embed", "--run", embedder, "--output", tmp_path / "y.npy", given=lines.read_text("utf-8"))[0]
        == 0
    )
    assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()
    nearest = ["nearest", "--run", embedder, "--index"]
    expected = call(*nearest, tmp_path / "x.jsonl", given=text)[1]
    assert call(*nearest, windows(tmp_path / "x.jsonl"), given=lines.read_text("utf-8"))[1] == expected
    assert call(*nearest, tmp_path / "x.npy", "--sentences", lines, given=text)[1] == expected
    for command, run, given in (
        ("classify", classifier, text),
        ("fill-mask", masked, "a <mask>\n<mask> b\n"),
    ):
        typed = "\ufeff" + given.replace("\n", "\r\n")
        assert call(command, "--run", run, given=typed) == call(command, "--run", run, given=given)


def test_one_text_in_place_of_lines_is_refused(classifier: Path, masked: Path, embedder: Path) -> None:
    calls: list[Callable[[Any], Any]] = [
        Classifier.from_pretrained(classifier).classify,
        Embedder.from_pretrained(embedder).embed,
        lambda lines: MaskFiller.from_pretrained(masked).fill(lines, count=1),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"^expected a list of strings .*; write \[text\]$"):
            call("<mask>")
        with pytest.raises(ValueError, match=r"^line 2 holds U\+D83D, half of a surrogate pair"):
            call(["<mask>", "\ud83d"])


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("masked_language_model", "a\tx\n" + "b " * 200 + "\tx\n", "but a sentence has 102 tokens"),
        ("masked_language_model", " \tx\n", "every line is blank"),
        ("classification", "the red house is here\n", "line 1: no label"),
        ("classification", "the red house is here\thot\n", "line 1: the label 'hot' is not in data.classes"),
        ("sentence_embedding", "\n", "no pairs are left"),
        ("sentence_embedding", None, "no corpus at"),
    ],
)
def test_an_error_of_the_validation_text_says_so(
    task: str, content: str | None, message: str, folder: Path, tmp_path: Path
) -> None:
    valid = tmp_path / "valid"
    for ending in ("", ".en", ".de"):
        if content is not None:
            (tmp_path / f"valid{ending}").write_text(content)
    train_text = folder / ("pairs" if task == "sentence_embedding" else "labelled")
    data = {"train": str(train_text), "valid": str(valid), "label_format": "tab", "max_tokens": 102}
    chosen = settings(tmp_path / "run", task, data, tokens_per_batch=101, max_steps=2)
    with pytest.raises(CorpusError) as caught:
        train(chosen)
    assert str(caught.value).startswith("the validation text (data.valid)")
    assert str(valid) in str(caught.value)
    assert message in str(caught.value)


def test_a_blank_line_has_a_vector_too(embedder: Path) -> None:
    vectors = Embedder.from_pretrained(embedder).embed(["", "the red cup", " "])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert Embedder.from_pretrained(embedder).embed([]).shape == (0, 32)


def test_an_index_that_cannot_be_used(embedder: Path, tmp_path: Path, call: Any) -> None:
    np.save(tmp_path / "narrow.npy", np.eye(2, 3, dtype=np.float32))
    (tmp_path / "lines").write_text("a\nb\n")
    (tmp_path / "one").write_text("a\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "embedding": [1]}\n{"text": "b"}\n')
    (tmp_path / "bad.npy").write_text("not numpy's")
    for index, sentences, message in (
        ("narrow.npy", "lines", "the index has vectors of 3 numbers, but this run's have 32"),
        ("narrow.npy", "one", "has the shape (2, 3), and"),
        (
            "narrow.npy",
            None,
            "narrow.npy holds only vectors; give the file of the sentences with --sentences",
        ),
        ("bad.jsonl", None, "bad.jsonl, line 2: not"),
        ("bad.npy", "lines", "bad.npy: not an array of numbers"),
        ("x.txt", None, "x.txt: the name of a file of vectors must end in .npy or .jsonl"),
    ):
        options = ["--run", embedder, "--index", tmp_path / index]
        options += ["--sentences", tmp_path / sentences] if sentences else []
        code, _, err = call("nearest", *options, given="the red cup\n")
        assert (code, message in err) == (2, True), err
