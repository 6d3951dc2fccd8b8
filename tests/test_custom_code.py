"""`--build` and `--task`: custom code from the current folder, in the commands that train or load a model."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures_run import events, tiny_settings

import transformer
from transformer.cli import main
from transformer.config.files import load_settings, save_settings

CODE = """
import torch
import transformer
from transformer.tasks.translation import TranslationTask
from transformer.training.objectives import Loss


class Builder(transformer.ModelBuilder):
    def feed_forward(self):
        return transformer.FeedForward(self.config.d_model, self.config.d_ff, torch.tanh)


def build(config):
    return Builder(config).build()


def half(model, batch):
    loss = torch.nn.functional.cross_entropy(
        model(batch.src_tokens, batch.tgt_tokens[:, :-1]).flatten(0, 1),
        batch.tgt_tokens[:, 1:].flatten(), ignore_index=0, reduction="sum",
    )
    return Loss(loss / 2, batch.target_tokens)


class Half(TranslationTask):
    metrics = ("loss", "nought")

    @staticmethod
    def objective(settings):
        return half

    @classmethod
    def validation(cls, name, tokenizer, settings):
        measure = super().validation(name, tokenizer, settings)
        return lambda model, group: {"loss": measure(model, group)["loss"], "nought": 0.0}


NUMBER = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the module `my_model`."""
    (tmp_path / "my_model.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("my_model", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def config(folder: Path, **training: Any) -> str:
    save_settings(tiny_settings(folder / "run", **training), folder / "recipe.yaml")
    return str(folder / "recipe.yaml")


def test_a_custom_model_is_trained_resumed_and_used_with_build(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    recipe = config(folder)
    train = ["train", "--config", recipe, "--build", "my_model:build"]
    assert main([*train, "--dry-run"]) == 0
    assert main([*train, "--training.max_steps", "4"]) == 0
    assert main([*train, "--resume"]) == 0
    run = folder / "run"
    assert load_settings(run / "config.yaml").build == "my_model:build"
    assert [event["build"] for event in events(run, "data")] == ["my_model:build"] * 2
    assert "the model is built by my_model:build" in capsys.readouterr().err
    used = ["--run", str(run), "--device", "cpu"]
    for command, text in (("translate", "a\n"), ("score", "a\tb\n"), ("evaluate", "")):
        standard_input = SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False)
        monkeypatch.setattr(sys, "stdin", standard_input)
        assert main([command, *used, "--build", "my_model:build"]) == 0, command
        capsys.readouterr()
        assert main([command, *used]) == 2
        assert f"{run}: built by my_model:build; pass --build my_model:build" in capsys.readouterr().err
    assert main(["train", "--config", recipe, "--resume"]) == 2
    assert "built by my_model:build; pass --build" in capsys.readouterr().err
    assert main(["convert", "--run", str(run), "--to", "ctranslate2", "--output", str(folder / "out")]) == 2
    assert "only models of this package can be converted" in capsys.readouterr().err


def test_a_custom_task_is_trained_resumed_and_scored_with_task(folder: Path, capsys: Any) -> None:
    train = ["train", "--config", config(folder), "--training.best_metric", "nought"]
    task = ["--task", "my_model:Half"]
    assert main([*train, *task, "--training.max_steps", "4"]) == 0
    assert main([*train, *task, "--resume"]) == 0
    run = folder / "run"
    assert load_settings(run / "config.yaml").task == "my_model:Half"
    plain = transformer.train(tiny_settings(folder / "plain"))
    halves, wholes = ([event["loss"] for event in events(path, "train")] for path in (run, plain))
    assert halves[0] == pytest.approx(wholes[0] / 2, rel=0.2)  # apart from label smoothing
    capsys.readouterr()
    scored = ["--run", str(run), "--device", "cpu", "--json"]
    assert main(["evaluate", *scored]) == 2
    assert "the task is my_model:Half; pass --task my_model:Half" in capsys.readouterr().err
    assert main(["evaluate", *scored, *task]) == 0
    assert json.loads(capsys.readouterr().out)["sentences"] == 12
    assert transformer.Translator.from_pretrained(run).translate(["a"])  # translating needs no loss


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--build", "my_model"], "--build is my_model; it must have the form MODULE:NAME"),
        (["--build", "no_model:build"], "there is no module no_model in "),
        (["--build", "my_model:built"], "defines no built; did you mean build?"),
        (["--build", "my_model:NUMBER"], "is not a function from ModelConfig to a module"),
        (["--task", "my_model:build"], "--task my_model:build is not a subclass of Task"),
        (["--task", "my_model:Half", "--model.kind", "decoder_only"], "trains encoder_decoder"),
        (["--task", "my_model:Half", "--training.best_metric", "bleu"], "choose one of loss, nought"),
        (["--task", "translate"], "choose one of translation"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    options: list[str], reason: str, folder: Path, capsys: Any
) -> None:
    assert main(["train", "--config", config(folder), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert len(error.splitlines()) == 1
    assert not (folder / "run").exists()


def test_an_error_in_the_module_itself_keeps_its_traceback(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        main(["train", "--config", config(folder), "--build", "broken:build"])


@pytest.mark.parametrize(("name", "value"), [("build", "my_model:build"), ("task", "my_model:Half")])
def test_a_file_runs_no_code(name: str, value: str, folder: Path, capsys: Any) -> None:
    text = Path(config(folder)).read_text().replace(f"\n{name}: null\n", f"\n{name}: {value}\n")
    (folder / "recipe.yaml").write_text(text)
    assert main(["train", "--config", str(folder / "recipe.yaml")]) == 2
    assert f"pass --{name} {value}" in capsys.readouterr().err
    assert "my_model" not in sys.modules


def test_a_runs_folder_is_no_place_for_code(folder: Path, capsys: Any) -> None:
    run = transformer.train(tiny_settings(folder / "run"))
    (folder / "my_model.py").rename(run / "my_model.py")
    assert main(["evaluate", "--run", str(run), "--build", "my_model:build"]) == 2
    assert "there is no module my_model in " in capsys.readouterr().err
