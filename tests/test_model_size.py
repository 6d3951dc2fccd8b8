"""`training.model_size: by_text`: the size suits the text, and is recorded as if it had been given."""

from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from fixtures_run import tiny_settings

from transformer.checkpoint.format import CheckpointError
from transformer.cli import main
from transformer.config import Settings, TrainingConfig
from transformer.config.command_line import read_settings
from transformer.config.files import load_settings
from transformer.recipe import train
from transformer.trained import load_pretrained
from transformer.training.model_size import LARGEST, SIZES, padded_tokens, size_for


def test_a_longer_text_never_has_a_smaller_model():
    sizes = [size_for(tokens) for tokens in (0, 99_999, 100_000, 999_999, 1_000_000, 10**9)]
    assert sizes == [SIZES[0][1]] * 2 + [SIZES[1][1]] * 2 + [LARGEST] * 2
    for smaller, larger in pairwise(sizes):
        assert all(asdict(smaller)[name] <= value for name, value in asdict(larger).items())


def test_the_help_has_the_sizes_of_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help", "training.model_size"])
    told = " ".join(capsys.readouterr().out.split())
    for size in (SIZES[0][1], SIZES[1][1], LARGEST):
        assert "{}, {}, {} and {}".format(*asdict(size).values()) in told
    assert [most for most, _ in SIZES] == [100_000, 1_000_000]


@pytest.fixture
def by_text(tmp_path) -> Settings:
    settings = tiny_settings(tmp_path / "run")
    return replace(
        settings,
        model=replace(Settings().model, dropout=0.3),
        training=replace(settings.training, model_size="by_text", max_steps=1),
    )


def test_the_run_records_its_size_and_is_resumed_with_or_without_the_setting(by_text):
    told: list[str] = []
    run = train(by_text, say=told.append)
    recorded = load_settings(run / "config.yaml")
    size = asdict(SIZES[0][1])
    assert {name: getattr(recorded.model, name) for name in size} == size
    assert (recorded.model.dropout, recorded.training.model_size) == (0.3, "given")
    assert any(f"tokens of text: {SIZES[0][1]}" in line for line in told)
    model = load_pretrained(run).model
    assert (
        sum(weight.numel() for weight in model.parameters() if weight.dim() > 1) == recorded.model.num_weights
    )
    for settings in (by_text, recorded):
        more = replace(settings.training, max_steps=recorded.training.max_steps + 1)
        assert train(replace(settings, training=more), resume=True) == run
    other = replace(recorded, model=replace(recorded.model, d_model=32))
    with pytest.raises(CheckpointError, match=r"was trained with model\.d_model 64, not 32"):
        train(other, resume=True)


def test_the_middle_size_begins_where_the_table_says(by_text, monkeypatch):
    """The tokens that are counted are those of both sides, with padding."""
    counted = []

    def counting(batches):
        counted.append(padded_tokens(batches))
        return 100_000

    monkeypatch.setattr("transformer.training.model_size.padded_tokens", counting)
    run = train(by_text)
    assert load_settings(run / "config.yaml").model.d_model == SIZES[1][1].d_model
    pairs = load_pretrained(run).settings.data.train
    assert pairs == "toyland:train[:60]"
    assert 60 * 2 * 3 < counted[0] < 60 * 2 * 60


def read(*arguments: str) -> Settings:
    return read_settings(arguments, prog="transformer train")[0]


def test_a_size_that_would_be_ignored_is_refused(capsys):
    assert read("--config", "mine").training.model_size == "by_text"
    for width in ("256", "512"):  # 512 is the default
        assert main(["train", "--config", "mine", "--model.d_model", width]) == 2
        assert capsys.readouterr().err == (
            f"transformer train: error: model.d_model is {width}, but training.model_size is by_text, which "
            "chooses this size by the amount of text; to choose it yourself, "
            "add --training.model_size given\n"
        )
    own = read("--config", "mine", "--training.model_size", "given", "--model.d_model", "256")
    assert own.model.d_model == 256
    with pytest.raises(ValueError, match=r"training\.start_from names a model with a size of its own"):
        Settings(training=TrainingConfig(model_size="by_text", start_from="runs/before"))
