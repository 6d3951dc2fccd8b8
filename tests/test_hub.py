"""Wherever a run is expected, its folder or its id on the Hub can be given."""

import io
from pathlib import Path

import pytest

from transformer.checkpoint.hub import local_folder
from transformer.checkpoint.opening import find_pretrained
from transformer.checkpoint.pretrained import load_run
from transformer.cli import main
from transformer.decoding.translator import Translator

ID = "someone/toyland-en-de"


@pytest.fixture
def asked(tiny_run, monkeypatch, tmp_path) -> list[str]:
    """Replace the Hub by one with a single repository, `tiny_run`; the value is the list of requested ids."""
    monkeypatch.chdir(tmp_path)
    ids: list[str] = []

    def snapshot_download(name, *, allow_patterns):
        assert allow_patterns is None
        ids.append(name)
        return str(tiny_run)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return ids


def test_an_id_on_the_hub_is_a_run(asked, tiny_run):
    lines = ["Is the house old?", ""]
    expected = Translator.from_pretrained(tiny_run, device="cpu").translate(lines)
    assert asked == []
    assert Translator.from_pretrained(ID, device="cpu").translate(lines) == expected
    assert asked == [ID]
    assert load_run(ID, task="translation", device="cpu").settings.model.kind == "encoder_decoder"
    assert find_pretrained(ID)[0].path == tiny_run


@pytest.mark.parametrize("command", ["translate", "evaluate"])
def test_commands_take_an_id(command, asked, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Is the house old?\n")))
    data = ["--data", "toyland:test[:2]"] if command == "evaluate" else []
    assert main([command, "--run", ID, "--beam-size", "1", "--device", "cpu", *data]) == 0
    assert set(asked) == {ID}


@pytest.mark.parametrize(
    "name", ["here", "runs/here", "runs/mistyped", "/no/folder", "a/b/c", "one", "a b/c"]
)
def test_what_is_a_path_is_never_asked_for(name, asked):
    Path("runs/here").mkdir(parents=True)
    Path("here").mkdir()
    assert local_folder(name) == Path(name)
    assert asked == []


def test_a_run_that_is_nowhere_is_one_line(asked, capsys):
    Path("runs").mkdir()
    assert main(["evaluate", "--run", "runs/mistyped"]) == 2
    assert "error: runs/mistyped: neither a run's folder with a checkpoint" in capsys.readouterr().err
    assert asked == []


def test_without_a_network_it_is_one_line(monkeypatch, capsys, tmp_path):
    def snapshot_download(*_, **__):
        raise ConnectionError("Name or service\nnot known")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert main(["translate", "--run", ID, "--device", "cpu"]) == 2
    expected = f"there is no folder '{ID}', and it cannot be loaded from the Hub: Name or service not known"
    assert capsys.readouterr().err == f"transformer translate: error: {expected}\n"


def test_the_hubs_own_client_offline_is_one_line(monkeypatch, capsys, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["translate", "--run", ID, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"transformer translate: error: there is no folder '{ID}', and it cannot be loaded"
    )
    assert error.count("\n") == 1
