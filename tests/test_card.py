"""`transformer card`: the card has the facts of the run, and does not overwrite one that the user wrote."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from fixtures_run import events

from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.opening import find_pretrained
from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.config import setting_names
from transformer.config.files import load_settings, save_settings
from transformer.evaluation.card import model_card, parameter_count
from transformer.trained import load_pretrained


def parts(card: str) -> tuple[dict, str]:
    """The YAML at the head of a card, and the text."""
    _, head, text = card.split("---\n", 2)
    return yaml.safe_load(head), text


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "mine")


def test_the_head_is_what_the_hub_reads(tiny_run):
    card = model_card(tiny_run)
    head, _ = parts(card)
    assert head["language"] == ["en", "de"]
    assert head["pipeline_tag"] == "translation"
    assert {"transformer", "encoder_decoder"} <= set(head["tags"])
    assert head["license"] == "unknown"  # a value that the Hub knows
    assert re.search(r"^license: unknown  # fill in", card, re.MULTILINE)


def test_names_of_columns_are_not_taken_for_languages(run):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("target: de", "target: german_text"))
    assert parts(model_card(run))[0]["language"] == ["en"]
    assert "from `en` to `german_text`" in model_card(run)


def test_sizes_data_and_settings_are_those_of_the_run(tiny_run):
    _, text = parts(model_card(tiny_run))
    found = rows(text)
    model, _, settings = load_pretrained(tiny_run)
    assert found["parameters"].startswith(f"{sum(each.numel() for each in model.parameters()):,}, ")
    assert found["checkpoint"] == find_pretrained(tiny_run)[1].name
    (data,) = events(tiny_run, "data")
    counts = f"{data['kept']} kept, {data['empty']} empty, {data['too_long']} too long"
    assert found["training"] == f"`toyland:train[:60]` ({counts})"
    assert (found["validation"], found["test"]) == ("`toyland:valid[:8]`", "`toyland:test[:12]`")
    (listed,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    changed = yaml.safe_load(listed)
    assert changed["model.d_model"] == settings.model.d_model == 16
    assert changed.keys() <= set(setting_names())
    assert "output" not in changed
    assert "model.norm" not in changed


def test_validation_scores_are_those_of_its_own_checkpoint(tiny_run):
    """The best of updates 4 and 6 is the card's, and its figures are those of the log."""
    step = int(find_pretrained(tiny_run)[1].name.removeprefix("step-"))
    (valid,) = [event for event in events(tiny_run, "valid") if event["step"] == step]
    card = model_card(tiny_run)
    assert rows(card)["loss"] == f"{valid['loss']:.4g}"
    assert f"{step} updates of 6" in card
    assert "`nrefs:1|case:mixed|" in card


def test_test_scores_come_with_their_signatures(run, tmp_path, capsys):
    assert main(["evaluate", "--run", str(run), "--json"]) == 0
    (tmp_path / "scores.json").write_text(capsys.readouterr().out)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert main(["card", str(run), "--scores", str(tmp_path / "scores.json")]) == 0
    said = capsys.readouterr().err
    assert said == f"wrote {run}/README.md; fill in the licence and the other marked places\n"
    card = (run / "README.md").read_text(encoding="utf-8")
    assert f"| bleu | {scores['bleu']:.4g} `{scores['bleu_signature']}` |" in card
    assert f"| chrf | {scores['chrf']:.4g} `{scores['chrf_signature']}` |" in card
    assert "On `toyland:test[:12]`:" in card
    assert load_pretrained(run)  # a run with a card is a run


def test_a_card_that_exists_is_kept(run, tmp_path, capsys):
    (run / "README.md").write_text("mine")
    assert main(["card", str(run)]) == 2
    assert "README.md exists, perhaps with your own text; delete it" in capsys.readouterr().err
    assert (run / "README.md").read_text() == "mine"
    assert main(["card"]) == 2
    assert "name a run, as in transformer card" in capsys.readouterr().err
    assert main(["card", "--run", str(run), "--output", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == model_card(run)


def test_two_different_runs_are_refused(run, tiny_run, tmp_path, capsys):
    assert main(["card", str(run), "--run", str(tiny_run)]) == 2
    assert capsys.readouterr().err == (
        f"transformer card: error: a card is about one run, not about both {run} and {tiny_run}; "
        "name one of them\n"
    )
    assert not (run / "README.md").exists()
    assert main(["card", str(run), "--run", str(run), "--output", str(tmp_path / "card.md")]) == 0


@pytest.mark.parametrize(
    "folder", ["/home/somebody/private/", "C:\\somebody\\private\\", "~/private/", "../private/"]
)
def test_a_card_names_no_folders_of_this_computer(folder, run):
    settings = load_settings(run / "config.yaml")
    texts = {name: f"{folder}{name}.csv[:90%]" for name in ("train", "valid", "test")}
    training = replace(settings.training, start_from=f"{folder}before")
    save_settings(
        replace(settings, data=replace(settings.data, **texts), training=training), run / "config.yaml"
    )
    scores = {"checkpoint": str(find_pretrained(run)[1]), "data": texts["test"], "bleu": 1.5}
    card = model_card(run, scores)
    assert "private" not in card
    assert rows(card)["test"] == "`test.csv[:90%]`"
    assert "On `test.csv[:90%]`:" in card
    assert "In validation on `valid.csv[:90%]`:" in card
    assert "data.train: train.csv[:90%]" in card


def test_scores_of_another_checkpoint_are_refused(run, tmp_path, capsys):
    (tmp_path / "scores.json").write_text('{"checkpoint": "runs/x/checkpoints/step-00000999", "data": "x"}')
    assert main(["card", str(run), "--scores", str(tmp_path / "scores.json")]) == 2
    assert "the scores are those of step-00000999, but the card is about step-" in capsys.readouterr().err
    for text, error in (("{}", '"checkpoint" is nothing'), ("x", "is not JSON")):
        (tmp_path / "scores.json").write_text(text)
        assert main(["card", str(run), "--scores", str(tmp_path / "scores.json")]) == 2
        assert error in capsys.readouterr().err
    assert not (run / "README.md").exists()


def test_a_run_that_knows_less_gets_a_shorter_card(run):
    averaged = average_checkpoints(Run(run), 2)
    card = model_card(averaged)
    assert "the mean of the checkpoints of updates 4, 6" in card
    assert "## Scores\n\n*Fill in" in card
    (run / "log.jsonl").unlink()  # as after `convert --from marian`
    card = model_card(run)
    assert rows(card)["training"] == "`toyland:train[:60]`"
    assert "## Scores\n\n*Fill in" in card
    (run / "log.jsonl").write_text('{"event": "data", "kept": 3}\n{"event": "da')
    assert rows(model_card(averaged))["training"] == "`toyland:train[:60]` (3 kept)"


def test_the_command_names_the_custom_code_that_the_model_needs(run):
    settings = load_settings(run / "config.yaml")
    save_settings(replace(settings, build="mine:build", task="mine:Task"), run / "config.yaml")
    card = model_card(run)
    assert "\n    transformer evaluate --run OWNER/NAME --build mine:build --task mine:Task\n" in card


def test_a_language_model_is_for_language_modelling(run):
    settings = load_settings(run / "config.yaml")
    save_settings(
        replace(settings, task=None, model=replace(settings.model, kind="decoder_only")), run / "config.yaml"
    )
    assert ") for language modelling.\n" in model_card(run)


def test_a_tied_weight_counts_once(tiny_run):
    model = load_pretrained(tiny_run).model
    assert parameter_count(find_pretrained(tiny_run)[1]) == sum(each.numel() for each in model.parameters())
