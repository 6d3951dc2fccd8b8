"""A resumed run equals an uninterrupted one, and the loop learns."""

import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from fixtures_run import events, tiny_settings
from helpers import right_padded, tiny_config

from transformer.checkpoint import reading
from transformer.checkpoint.format import MODEL, OPTIMIZER, STATE, CheckpointError
from transformer.checkpoint.reading import read_manifest, read_state
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import DataConfig, Settings, TrainingConfig
from transformer.data.batches import TokenBatches
from transformer.data.text import CorpusError
from transformer.decoding.beam import beam_search
from transformer.decoding.search import greedy_search
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.model.build import build_model
from transformer.recipe import train
from transformer.tasks.translation import TranslationLoss
from transformer.training.distributed import ALONE
from transformer.training.log import Log, Meter
from transformer.training.loop import fit
from transformer.training.optimizer import make_optimizers
from transformer.training.saving import Saver
from transformer.training.schedule import learning_rate
from transformer.training.state import TrainingState
from transformer.training.update_rule import UpdateRule


class PowerError(Exception):
    """Simulates a power failure."""


def stop_before(step: int, monkeypatch) -> None:
    original = UpdateRule.set_rate

    def set_rate(rule: UpdateRule, current: int) -> float:
        if current == step:
            raise PowerError
        return original(rule, current)

    monkeypatch.setattr(UpdateRule, "set_rate", set_rate)


def assert_equal_checkpoints(ours: Path, theirs: Path) -> None:
    for name in (MODEL, OPTIMIZER):
        tensors, expected = read_tensors(ours / name), read_tensors(theirs / name)
        assert tensors.keys() == expected.keys()
        assert [key for key in tensors if not torch.equal(tensors[key], expected[key])] == []
    states = [read_state(folder) for folder in (ours, theirs)]
    for state in states:
        assert state.pop("seconds") >= 0  # only the elapsed time may differ
    assert states[0] == states[1]


# Resuming

EVERY_STEP = {"max_steps": 8, "save_every": 1, "valid_every": 3, "keep": 8}


def test_before_the_first_update_each_file_is_compared_with_its_hash_once(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path / "run", max_steps=2)
    run = Run(train(settings))
    original, hashed = reading.file_hash, []
    monkeypatch.setattr(reading, "file_hash", lambda path: hashed.append(path) or original(path))
    monkeypatch.setattr("transformer.recipe.fit", lambda *_, **__: None)
    train(settings, resume=True)
    assert sorted(hashed) == sorted(run.marked("last") / name for name in (MODEL, OPTIMIZER, STATE))


@pytest.fixture(scope="module", params=[1, 2], ids=["one batch", "accumulate"])
def straight(request, tmp_path_factory):
    """An uninterrupted run that keeps a checkpoint of every update, and spans more than one epoch."""
    settings = tiny_settings(
        tmp_path_factory.mktemp("straight") / "run", accumulate=request.param, **EVERY_STEP
    )
    return settings, Run(train(settings))


def test_the_straight_run_covers_what_resuming_must_survive(straight):
    settings, run = straight
    assert settings.model.dropout > 0
    positions = [read_state(run.checkpoint(step))["batches"] for step in run.steps()]
    assert positions[-1]["epoch"] > positions[0]["epoch"] == 0
    assert [entry["step"] for entry in events(run.path, "valid")] == [3, 6, 8]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7])
def test_a_run_resumed_from_any_update_equals_one_without_a_break(straight, step, tmp_path):
    settings, run = straight
    resumed = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
    for later in range(step + 1, 9):
        shutil.rmtree(resumed.checkpoint(later))
    resumed.mark("last", resumed.checkpoint(step))
    torch.manual_seed(12345)  # the process's earlier random state must not matter
    train(replace(settings, output=str(resumed.path)), resume=True)
    for later in range(step + 1, 9):
        assert_equal_checkpoints(resumed.checkpoint(later), run.checkpoint(later))
    losses = [entry["loss"] for entry in events(run.path, "train")]
    assert [entry["loss"] for entry in events(resumed.path, "train")][-(8 - step) :] == losses[step:]
    assert resumed.marked("best").name == run.marked("best").name
    assert [entry["step"] for entry in events(resumed.path, "resume")] == [step]


def test_a_run_that_was_stopped_between_checkpoints_does_the_lost_updates_again(tmp_path, monkeypatch):
    straight, broken = tiny_settings(tmp_path / "straight"), tiny_settings(tmp_path / "broken")
    train(straight)
    with monkeypatch.context() as patch:
        stop_before(6, patch)
        with pytest.raises(PowerError):
            train(broken)
    run = Run(tmp_path / "broken")
    assert run.marked("last").name == "step-00000004"
    train(broken, resume=True)
    assert_equal_checkpoints(run.marked("last"), Run(tmp_path / "straight").marked("last"))


def test_a_finished_run_is_continued_for_more_updates_and_otherwise_left_unchanged(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    train(tiny_settings(folder), resume=True)
    assert Run(folder).marked("last").name == "step-00000006"
    train(tiny_settings(folder, max_steps=8), resume=True)
    assert Run(folder).marked("last").name == "step-00000008"
    assert read_state(Run(folder).marked("last"))["step"] == 8


def test_resume_starts_a_run_that_does_not_exist(tmp_path, tiny_run):
    settings = tiny_settings(tmp_path / "new")
    train(settings, resume=True)
    assert_equal_checkpoints(Run(tmp_path / "new").marked("last"), Run(tiny_run).marked("last"))


def test_the_same_settings_give_the_same_run_and_another_seed_another(tmp_path, tiny_run):
    train(tiny_settings(tmp_path / "again"))
    assert_equal_checkpoints(Run(tmp_path / "again").marked("last"), Run(tiny_run).marked("last"))
    train(replace(tiny_settings(tmp_path / "other"), seed=2))
    hashes = [read_manifest(run.marked("last"))["files"] for run in (Run(tiny_run), Run(tmp_path / "other"))]
    assert hashes[0][MODEL] != hashes[1][MODEL]


# What is refused


def test_a_folder_with_a_run_is_not_overwritten(tiny_run):
    before = sorted((path, path.stat().st_mtime_ns) for path in tiny_run.rglob("*"))
    with pytest.raises(ValueError, match=r"holds a run already; --resume continues it, --output names anoth"):
        train(tiny_settings(tiny_run))
    assert sorted((path, path.stat().st_mtime_ns) for path in tiny_run.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, model=replace(s.model, d_ff=48)), r"with model\.d_ff 32, not 48; resume with"),
        (lambda s: replace(s, model=replace(s.model, dropout=0.0)), r"with model\.dropout 0\.1, not 0\.0"),
        (
            lambda s: replace(s, data=replace(s.data, train="toyland:train[:50]")),
            r"with data\.train 'toyland:train\[:60\]', not 'toyland:train\[:50\]'",
        ),
        (lambda s: replace(s, seed=2), r"with seed 1, not 2; resume with"),
        (
            lambda s: replace(s, data=replace(s.data, valid=None)),
            r"with data\.valid 'toyland:.*', not None, and it decides which checkpoint is best",
        ),
        (
            lambda s: replace(s, training=replace(s.training, best_metric="bleu")),
            r"with training\.best_metric 'loss', not 'bleu', and it decides which checkpoint is best",
        ),
    ],
    ids=["model", "dropout", "data", "seed", "valid", "metric"],
)
def test_resume_refuses_another_run(tiny_run, change, message):
    before = (tiny_run / "config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match=message):
        train(change(tiny_settings(tiny_run)), resume=True)
    assert (tiny_run / "config.yaml").read_bytes() == before


def test_resume_refuses_another_tokenizer(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    other = train(tiny_settings(tmp_path / "other", data={"train": "toyland:train[:70]"}))
    shutil.copy(other / "tokenizer.model", folder)
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.model: not the tokenizer that .* was trained with"
    ):
        train(tiny_settings(folder), resume=True)


def test_other_special_ids_than_the_tokenizers_are_refused_before_anything_is_written(tmp_path):
    settings = tiny_settings(tmp_path / "run")
    message = r"unk_id are \(7, 1, 2, 3\); the tokenizer's ids are \(0, 1, 2, 3\)"
    with pytest.raises(ValueError, match=message):
        train(replace(settings, model=replace(settings.model, pad_id=7)))
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_validation_text_says_so(tmp_path):
    for language in ("en", "de"):
        (tmp_path / f"valid.{language}").write_text("the clock " * 100 + "\n")
    settings = tiny_settings(tmp_path / "run", data={"valid": str(tmp_path / "valid")})
    with pytest.raises(
        CorpusError, match=r"^the validation text \(data\.valid\) .*/valid: no pairs are left"
    ):
        train(settings)
    (tmp_path / "valid.de").write_bytes(b"c\xff\n")
    message = r"^the validation text \(data\.valid\): .*/valid\.de, line 1: invalid UTF-8 at byte 2"
    with pytest.raises(CorpusError, match=message):
        train(settings)


# The run's folder


def test_a_runs_folder_holds_what_the_design_says(tiny_run):
    run = Run(tiny_run)
    names = {"config.yaml", "tokenizer.model", "log.jsonl", "checkpoints", "best", "last", ".lock"}
    assert {path.name for path in tiny_run.iterdir()} == names
    assert run.steps() == [2, 4, 6]
    assert run.marked("last") == run.checkpoint(6)
    losses = {entry["step"]: entry["loss"] for entry in events(tiny_run, "valid")}
    assert losses.keys() == {4, 6}
    assert run.marked("best") == run.checkpoint(min(losses, key=losses.__getitem__))
    assert [entry["step"] for entry in events(tiny_run, "train")] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in events(tiny_run, "save")] == [2, 4, 6]
    counts = events(tiny_run, "data")[0]
    assert counts["kept"] + counts["empty"] + counts["too_long"] == 60


def test_the_log_shows_the_rate_of_the_schedule_and_every_target_token(tiny_run):
    settings = tiny_settings(tiny_run)
    for entry in events(tiny_run, "train"):
        expected = learning_rate(entry["step"], settings.model.d_model, settings.training)
        assert entry["rate"] == pytest.approx(expected)
        assert 0 < entry["tokens"] <= 400
        assert entry["gradient_norm"] > 0


def test_without_validation_text_the_last_checkpoint_is_meant(tmp_path):
    folder = train(tiny_settings(tmp_path / "run", data={"valid": None}, max_steps=2))
    assert not (folder / "best").exists()
    assert events(folder, "valid") == []


def test_plain_files_train_too_and_dropped_pairs_are_counted(tmp_path):
    (tmp_path / "t.en").write_text("a clock\n\nx\n" + "one two three four\n" * 20 + "long " * 90 + "\n")
    (tmp_path / "t.de").write_text("eine Uhr\nleer\n \n" + "eins zwei drei vier\n" * 20 + "lang\n")
    name = str(tmp_path / "t")
    said: list[str] = []
    text = {"train": name, "valid": f"{name}[:1]", "vocab_size": 300}
    folder = train(tiny_settings(tmp_path / "run", data=text, max_steps=1), say=said.append)
    assert [events(folder, "data")[0][key] for key in ("kept", "empty", "too_long")] == [21, 2, 1]
    assert any("21 pairs (2 empty and 1 too long ones dropped)" in line for line in said)


def test_a_researchers_model_is_trained_through_build(tmp_path):
    built = []

    def build(config):
        model = build_model(config)
        model.extra = torch.nn.Linear(1, 1)
        built.append(config)
        return model

    folder = train(tiny_settings(tmp_path / "run", max_steps=1), build=build)
    assert built[0].vocab_size == 330
    assert "extra.weight" in read_tensors(Run(folder).marked("last") / MODEL)


# The loop's parts


def test_the_meter_averages_over_the_tokens_of_updates_that_were_taken():
    meter, taken, skipped = Meter(), torch.tensor(1.0), torch.tensor(0.0)
    meter.add(torch.tensor(6.0), 2, taken)
    meter.add(torch.tensor(float("nan")), 5, skipped)
    meter.add(torch.tensor(1.0), 8, taken)
    values = meter.read()
    assert (values["loss"], values["tokens"]) == pytest.approx((0.7, 10))
    meter.add(torch.tensor(float("nan")), 1, skipped)
    assert math.isnan(meter.read()["loss"])


def symbols(generator: random.Random, count: int) -> list[tuple[int, ...]]:
    rows = {tuple(generator.sample(range(4, 12), k=generator.randint(2, 6))) for _ in range(2 * count)}
    return sorted(rows)[:: max(1, len(rows) // count)][:count]


def test_copying_is_learned_and_unseen_sequences_are_decoded_exactly(tmp_path):
    rows = symbols(random.Random(1), 3000)
    random.Random(2).shuffle(rows)
    unseen, seen = rows[:50], rows[50:]
    assert not set(unseen) & set(seen)
    ids = [[*row, 2] for row in seen]
    kind = datasets.Sequence(datasets.Value("int32"))
    table = datasets.Dataset.from_dict(
        {"src": ids, "tgt": ids, "line": range(1, len(ids) + 1)},
        features=datasets.Features(src=kind, tgt=kind, line=datasets.Value("int64")),
    )
    config = tiny_config(vocab_size=12, d_model=32, d_ff=64, num_layers=1, num_heads=4)
    settings = TrainingConfig(
        max_steps=600, warmup_steps=120, cooldown=0.6, label_smoothing=0.0, save_every=10**6
    )
    model = build_model(config)
    batches = TokenBatches(table, tokens_per_batch=400, seed=1)
    state = TrainingState(
        model,
        UpdateRule(
            model,
            make_optimizers(model, settings),
            lambda step: learning_rate(step, config.d_model, settings),
        ),
        batches,
    )
    run = Run(tmp_path)
    fit(
        state,
        Settings(model=config, data=DataConfig(max_tokens=config.max_positions), training=settings),
        objective=TranslationLoss(0.0, cross_entropy=overwriting_cross_entropy),
        evaluate=None,
        precision="float32",
        saver=Saver(run, "", settings, ALONE, Log(run)),
    )
    src_tokens = right_padded([[*row, 2] for row in unseen])
    found = {
        "greedy": greedy_search(model.eval(), src_tokens, max_length=12),
        "beam": beam_search(model, src_tokens, beam_size=4, alpha=0.6, max_length=12),
    }
    for hypotheses in found.values():
        lengths = hypotheses.lengths[:, 0].tolist()
        outputs = hypotheses.tokens[:, 0].tolist()
        assert [output[:length] for output, length in zip(outputs, lengths, strict=True)] == [
            [*row, 2] for row in unseen
        ]
