"""Masking, labels, pooling and losses of encoder-only models, compared with their laws and formulas."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, random_rows, right_padded, tiny_config, tiny_model
from hypothesis import given
from hypothesis import strategies as st

from transformer.config import DataConfig, ModelConfig, Settings, TrainingConfig
from transformer.data.batches import Batch
from transformer.data.masking import MASK, MASK_ID, MaskedBatch, MaskedBatches, encode_with_masks, has_mask
from transformer.data.sentences import LabelledBatch, LabelledBatches, encode_sentences, read_sentences
from transformer.data.text import CorpusError
from transformer.data.tokenizers.protocol import EOS_ID
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.model.build import build_model
from transformer.model.heads import (
    MaskedLanguageModel,
    SentenceEmbedder,
    SequenceClassifier,
    masked_language_model,
    sequence_classifier,
)
from transformer.tasks.classification import ClassificationLoss
from transformer.tasks.masked_language_model import MaskedLoss
from transformer.tasks.sentence_embedding import ContrastiveLoss, precision_at_1
from transformer.tasks.task import task_class
from transformer.training.loop import accumulate_gradients
from transformer.training.objectives import in_precision

LINES = ["A man in a blue shirt.", "Two dogs run on the beach.", "A woman reads a book."] * 8


def sentences(*lengths: int, vocab_size: int = 50) -> list[Any]:
    generator = np.random.default_rng(0)
    return [
        np.append(generator.integers(5, vocab_size, length - 1), EOS_ID).astype(np.int64)
        for length in lengths
    ]


def masked_batches(rows: list[Any], *, seed: int = 1, tokens: int = 400, shuffle: bool = True) -> Any:
    return MaskedBatches(rows, 50, tokens_per_batch=tokens, seed=seed, shuffle=shuffle)


# Masking


def test_the_shares_of_masking() -> None:
    rows = sentences(*np.random.default_rng(1).integers(2, 60, 1500))
    fates: Counter[str] = Counter()
    batches = masked_batches(rows)
    for plan in batches.epoch(0):
        batch = batches.fetch(plan)
        originals = right_padded([rows[row].tolist() for row in plan[:, 0]])
        chosen = torch.zeros(originals.numel(), dtype=torch.bool)
        chosen[batch.places] = True
        chosen = chosen.view_as(originals)
        assert batch.target_tokens == int(chosen.sum())
        assert chosen.any(dim=1).all()
        assert torch.equal(batch.tokens[~chosen], originals[~chosen])
        assert torch.equal(batch.labels, originals[chosen])
        assert not (batch.labels == EOS_ID).any()
        fates["tokens"] += int((originals >= 5).sum())
        fates["masked"] += int((batch.tokens[chosen] == MASK_ID).sum())
        fates["same"] += int((batch.tokens[chosen] == originals[chosen]).sum())
        fates["chosen"] += int(chosen.sum())
        assert (batch.tokens[chosen] >= MASK_ID).all()
    assert fates["chosen"] / fates["tokens"] == pytest.approx(0.15, abs=0.005)
    assert fates["masked"] / fates["chosen"] == pytest.approx(0.8, abs=0.02)
    assert fates["same"] / fates["chosen"] == pytest.approx(0.1 + 0.1 / 45, abs=0.02)


def test_what_is_hidden_depends_on_seed_epoch_and_sentence_alone() -> None:
    rows = sentences(*[20] * 30)

    def hidden(seed: int, tokens: int, epoch: int) -> dict[int, list[int]]:
        batches = masked_batches(rows, seed=seed, tokens=tokens)
        return {
            row: ids
            for plan in batches.epoch(epoch)
            for row, ids in zip(plan[:, 0].tolist(), batches.fetch(plan).tokens.tolist(), strict=True)
        }

    assert hidden(1, 400, 2) == hidden(1, 40, 2)
    assert hidden(1, 400, 2) != hidden(1, 400, 3)
    assert hidden(1, 400, 2) != hidden(2, 400, 2)


def test_the_position_of_masked_batches_can_be_restored() -> None:
    whole, resumed = (masked_batches(sentences(*range(2, 30)), tokens=60) for _ in range(2))
    for _ in range(25):
        state = whole.state_dict()
        expected = next(whole)
        resumed.load_state_dict(state)
        assert torch.equal(next(resumed).tokens, expected.tokens)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_an_epoch_holds_every_sentence_once(lengths: list[int], epoch: int, shuffle: bool) -> None:
    batches = masked_batches(sentences(*lengths), tokens=30, shuffle=shuffle)
    plan = batches.epoch(epoch)
    assert sorted(np.concatenate(plan)[:, 0].tolist()) == list(range(len(lengths)))
    assert all(batches.fetch(rows).tokens.numel() <= 30 for rows in plan)


def test_a_mask_in_a_line_hides_a_whole_word() -> None:
    tokenizer = train_tokenizer(LINES, vocab_size=330, normalization="nmt_nfkc", symbols=[MASK])
    assert has_mask(tokenizer)
    assert not has_mask(train_tokenizer(LINES, vocab_size=330, normalization="nmt_nfkc"))
    man, end = tokenizer.encode(["A man", "x."])[0], tokenizer.encode(["x."])[0][-1:]
    assert encode_with_masks([f"A man {MASK}.", f"A man{MASK}", MASK, "A man"], tokenizer) == [
        [*man, MASK_ID, *end],
        [*man, MASK_ID],
        [MASK_ID],
        man,
    ]


# Files of sentences


@pytest.mark.parametrize(
    ("label_format", "line", "expected"),
    [
        (None, "a\tb", ("a\tb", None)),
        ("tab", "a film\t1", ("a film", "1")),
        ("tab", "a\tb\t0", ("a\tb", "0")),
        ("colon", "DESC:manner How did it : start ?", ("How did it : start ?", "DESC")),
    ],
)
def test_labels_are_split_off(
    tmp_path: Path, label_format: str | None, line: str, expected: tuple[str, str | None]
) -> None:
    (tmp_path / "file").write_text(f"{line}\n")
    [sentence] = read_sentences(str(tmp_path / "file"), label_format)
    assert (sentence.text, sentence.label) == expected


@pytest.mark.parametrize(
    ("label_format", "bad"), [("tab", "no label"), ("tab", "empty\t"), ("colon", "What ?"), ("colon", "")]
)
def test_a_line_without_a_label_is_an_error_with_file_and_line(
    tmp_path: Path, label_format: str, bad: str
) -> None:
    good = {"tab": "text\tx", "colon": "X:y text"}[label_format]
    (tmp_path / "file").write_text(f"{good}\n{good}\n{bad}\n")
    with pytest.raises(CorpusError, match=rf"file, line 3: no label; data\.label_format {label_format} mean"):
        read_sentences(str(tmp_path / "file"), label_format)


@pytest.mark.parametrize(
    ("part", "expected"), [("[:50%]", "ab"), ("[50%:]", "cd"), ("[1:2]", "b"), ("", "abcd")]
)
def test_slices_count_lines(tmp_path: Path, part: str, expected: str) -> None:
    (tmp_path / "file").write_text("a\nb\nc\nd\n")
    assert "".join(s.text for s in read_sentences(f"{tmp_path}/file{part}", None)) == expected
    with pytest.raises(CorpusError, match=r"file\[4:\]: there are no sentences in it"):
        read_sentences(f"{tmp_path}/file[4:]", None)


def test_a_long_sentence_is_cut_and_keeps_its_end() -> None:
    tokenizer = train_tokenizer(LINES, vocab_size=330, normalization="nmt_nfkc")
    [whole], [cut] = (encode_sentences(LINES[:1], tokenizer, limit) for limit in (99, 5))
    assert len(cut) == 5
    assert cut[-1] == EOS_ID
    assert cut[:4].tolist() == whole[:4].tolist()


# Heads


def head(name: str) -> torch.nn.Module:
    encoder = tiny_model(kind="encoder_only")
    heads = {
        "masked": lambda: MaskedLanguageModel(encoder, torch.nn.Linear(16, 13)),
        "classifier": lambda: SequenceClassifier(encoder, 3),
        "embedder": lambda: SentenceEmbedder(encoder),
    }
    return heads[name]().eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["masked", "classifier", "embedder"])
def test_a_batch_equals_its_rows_and_pads_change_nothing(name: str) -> None:
    model = head(name)
    rows = random_rows(3, 7, 1, 5)
    together = model(right_padded(rows, 9))
    for row, output in zip(rows, together, strict=True):
        alone = model(torch.tensor([row]))[0]
        assert_close(output[: len(row)] if name == "masked" else output, alone)


def test_logits_of_some_places_are_those_of_all_places() -> None:
    model, tokens = head("masked"), right_padded(random_rows(3, 7, 1, 5), 9)
    places = torch.tensor([0, 6, 9, 18, 22])
    assert_close(model(tokens, places), model(tokens).flatten(0, 1)[places])


def test_pooling_is_the_mean_of_real_tokens() -> None:
    rows = random_rows(3, 7)
    embedder = head("embedder")
    for row, vector in zip(rows, embedder(right_padded(rows)), strict=True):
        mean = embedder.encoder(torch.tensor([row]))[0].mean(dim=0)
        assert_close(vector, mean / mean.norm())
        assert float(vector.norm()) == pytest.approx(1)


def settings_for(task: Any, **model: Any) -> Settings:
    config = tiny_config(kind="encoder_only", **model)
    return Settings(task=task, model=config, data=DataConfig(classes="a,b,c", max_tokens=16))


def test_heads_by_task_and_their_initial_values() -> None:
    for task, kind in (
        ("masked_language_model", MaskedLanguageModel),
        ("classification", SequenceClassifier),
        ("sentence_embedding", SentenceEmbedder),
    ):
        settings = settings_for(task)
        assert type(task_class(task).head(build_model(settings.model), settings)) is kind
    encoder = build_model(tiny_config(kind="encoder_only"))
    tied = masked_language_model(encoder, settings_for("masked_language_model"))
    assert tied.output.weight is tied.encoder.embedding.embedding.weight
    changes = {"tie_embeddings": False, "output_bias": True, "d_model": 64, "vocab_size": 500}
    settings = settings_for("masked_language_model", **changes)
    free = masked_language_model(build_model(settings.model), settings)
    assert float(free.output.weight.detach().std()) == pytest.approx(1 / 8, rel=0.05)
    assert not free.output.bias.any()
    settings = settings_for("classification")
    classifier = sequence_classifier(build_model(settings.model), settings)
    assert classifier.output.weight.shape == (3, 16)
    assert not classifier.output.bias.any()
    assert float(classifier.output.weight.detach().abs().max()) <= (6 / 19) ** 0.5


# Losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_masked_loss_is_the_cross_entropy_of_what_was_hidden(smoothing: float) -> None:
    model = head("masked")
    tokens = right_padded([[5, 4, 7, 2], [4, 2]])
    places, labels = torch.tensor([1, 4]), torch.tensor([9, 6])
    loss = MaskedLoss(smoothing)(model, MaskedBatch(tokens, places, labels))
    log_probs = model(tokens).detach().double().log_softmax(dim=-1)
    rows = [(log_probs[0, 1], 9), (log_probs[1, 0], 6)]
    expected = -sum((1 - smoothing) * row[gold] + smoothing * row.mean() for row, gold in rows)
    assert loss.tokens == 2
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification_loss_knows_class_0(smoothing: float) -> None:
    model = head("classifier")
    tokens, classes = right_padded(random_rows(3, 5, 4)), torch.tensor([0, 2, 1])
    loss = ClassificationLoss(smoothing)(model, LabelledBatch(tokens, classes, 3))
    log_probs = model(tokens).detach().double().log_softmax(dim=-1)
    gold = log_probs[torch.arange(3), classes]
    expected = -((1 - smoothing) * gold + smoothing * log_probs.mean(dim=1)).sum()
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-5)


def test_contrastive_loss_is_infonce_in_both_directions() -> None:
    model = head("embedder")
    sources, targets = random_rows(3, 7, 4), random_rows(5, 2, 6)
    batch = Batch(right_padded(sources), right_padded([[1, *row] for row in targets]), np.arange(3), 3)
    loss = ContrastiveLoss(0.2)(model, batch)
    a, b = (
        np.stack([model(torch.tensor([row]))[0].detach().double().numpy() for row in side])
        for side in (sources, targets)
    )
    logits = np.exp(a @ b.T / 0.2)
    gold = np.diag(logits)
    expected = -0.5 * (np.log(gold / logits.sum(axis=1)) + np.log(gold / logits.sum(axis=0))).sum()
    assert loss.tokens == 3
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)


def test_what_a_loss_keeps_in_float32_has_its_gradient_in_float32() -> None:
    """The model has no matrix products, so bfloat16 must change neither the loss nor the gradient."""
    batch = Batch(torch.tensor([[3], [4], [5]]), torch.tensor([[1, 6], [1, 7], [1, 8]]), np.arange(3), 3)
    gradients = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Embedding(9, 16), torch.nn.Flatten(), torch.nn.LayerNorm(16))
        objective = in_precision(ContrastiveLoss(0.05, 0.1), torch.device("cpu"), precision)
        accumulate_gradients(objective, model, [batch])
        gradients.append(model[0].weight.grad)
    assert torch.equal(*gradients)


def test_precision_at_1() -> None:
    queries = torch.eye(4)
    assert precision_at_1(queries, queries) == 100
    assert precision_at_1(queries, queries[[1, 0, 2, 3]]) == 50


def test_the_sum_is_over_sentences_however_they_are_batched() -> None:
    rows, classes = sentences(*range(2, 14), vocab_size=13), np.arange(12) % 3
    model = head("classifier")

    def total(tokens: int) -> float:
        batches = LabelledBatches(rows, classes, tokens_per_batch=tokens, seed=1, shuffle=True)
        return sum(float(ClassificationLoss(0.1)(model, b).total) for b in batches.one_pass())

    assert total(14) == pytest.approx(total(500), rel=1e-5)


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "classification"},
            "task classification is for model.kind encoder_only, and model.kind is",
        ),
        (
            {"task": "translation", "model": ModelConfig(kind="encoder_only")},
            "or task to masked_language_model or classification or sentence_embedding",
        ),
        (
            {"training": TrainingConfig(best_metric="accuracy")},
            "best_metric is 'accuracy'; choose one",
        ),
        (
            {"training": TrainingConfig(best_metric="bleu", valid_sample=0)},
            "training.best_metric bleu needs training.valid_sample above 0",
        ),
        (
            {"training": TrainingConfig(patience=2), "data": DataConfig(valid=None)},
            "training.patience counts validations, but data.valid is null",
        ),
    ],
)
def test_a_task_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        replace(Settings(), **changes)


def test_the_task_that_goes_without_saying() -> None:
    kinds = ("encoder_decoder", "decoder_only", "encoder_only")
    tasks = [Settings(model=ModelConfig(kind=kind)).trained_task for kind in kinds]
    assert tasks == ["translation", "language_model", "masked_language_model"]
