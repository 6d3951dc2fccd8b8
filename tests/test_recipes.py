"""Recipes are found by name from anywhere, and a run is resumed with its own settings."""

import pytest
from fixtures_run import tiny_settings

from transformer.cli import main
from transformer.config import Settings
from transformer.config.command_line import read_settings
from transformer.config.files import load_settings
from transformer.config.recipes import FOLDER, find_recipe, overview, recipe_names
from transformer.recipe import train


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(*arguments):
    def add_options(parser):
        parser.add_argument("--resume", action="store_true")

    return read_settings(arguments, prog="transformer train", add_options=add_options)[0]


def test_every_recipe_has_a_name_and_is_listed():
    listed = "\n".join(overview())
    for name in recipe_names():
        assert find_recipe(name) == FOLDER / f"{name}.yaml"
        assert f"\n{name}\n" in f"\n{listed}\n" or name.startswith("table3/")
    assert next(overview()) == "toyland"
    assert max(map(len, listed.splitlines())) <= 80


def test_a_name_gives_the_settings_of_its_file(tmp_path):
    assert read("--config", "toyland") == load_settings(FOLDER / "toyland.yaml")
    assert read("--config", "configs/toyland.yaml") == load_settings(FOLDER / "toyland.yaml")
    (tmp_path / "toyland").mkdir()
    assert read("--config", "toyland") == load_settings(FOLDER / "toyland.yaml")
    (tmp_path / "toyland").rmdir()
    (tmp_path / "toyland").write_text("seed: 9\n")
    assert read("--config", "toyland") == Settings(seed=9)  # a file comes first


def test_a_recipe_is_copied_but_never_over_a_file(tmp_path, capsys):
    assert main(["recipes", "copy", "toyland"]) == 0
    assert (tmp_path / "toyland.yaml").read_bytes() == (FOLDER / "toyland.yaml").read_bytes()
    (tmp_path / "toyland.yaml").write_text("seed: 2\n")
    assert main(["recipes", "copy", "toyland"]) == 2
    assert (tmp_path / "toyland.yaml").read_text() == "seed: 2\n"
    assert main(["recipes", "copy", "toylnd"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        "transformer recipes: error: no recipe is named toylnd; did you mean toyland?"
    ]
    assert main(["recipes", "copy", "toyland", "my own.yaml"]) == 0
    assert capsys.readouterr().out.endswith("train with: transformer train --config 'my own.yaml'\n")


def test_train_without_a_recipe_lists_them_and_trains_nothing(tmp_path, capsys):
    assert main(["train"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "toyland"
    assert told[-1] == "transformer train: error: name a recipe, as in: transformer train --config toyland"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--output", "runs/mistyped", "--resume"], "there is no run to resume in runs/mistyped"),
        (
            ["--seed", "3", "--device", "cpu", "--output", "new"],
            "all settings of the model, the data and the training are the defaults",
        ),
        (["--dry-run"], "all settings of the model, the data and the training are the defaults"),
    ],
)
def test_a_command_that_names_no_recipe_does_not_train_the_base_model(tmp_path, capsys, arguments, reason):
    assert main(["train", *arguments]) == 2
    assert capsys.readouterr().err == (
        f"transformer train: error: {reason}; start with a recipe, as in: "
        "transformer train --config toyland\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_resumed_with_its_own_settings(tmp_path):
    run = str(tmp_path / "run")
    train(tiny_settings(tmp_path / "run", max_steps=1))
    recorded = load_settings(tmp_path / "run" / "config.yaml")
    assert read("--output", run, "--resume") == recorded
    longer = read("--output", run, "--resume", "--training.max_steps", "2e0")
    assert longer.training.max_steps == 2
    assert longer.model == recorded.model
    assert read("--output", run, "--seed", "4").model == Settings().model  # only when resumed


def test_a_setting_that_cannot_change_is_refused_before_the_text_is_read(tmp_path, capsys):
    train(tiny_settings(tmp_path / "run", max_steps=1))
    capsys.readouterr()
    assert main(["train", "--output", str(tmp_path / "run"), "--resume", "--model.d_ff", "48"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "run was trained with model.d_ff" in told[0]
