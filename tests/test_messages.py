"""If standard error cannot be written, only the message to the user is lost; the program continues."""

import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fixtures_run import tiny_settings

from transformer import Translator
from transformer.checkpoint.run import Run
from transformer.messages import UnfailingStream, standard_error, tell, warn
from transformer.progress import Progress
from transformer.recipe import train
from transformer.training.log import Log
from transformer.version import DISTRIBUTION

ROOT = Path(__file__).parents[1]


class FullDisk(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


class Unread(io.StringIO):
    """A pipe without a reader: writing succeeds, and flushing fails."""

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


BROKEN = {"none": lambda: None, "closed": closed, "full": FullDisk, "unread": Unread}


@pytest.fixture(params=BROKEN)
def broken(request, monkeypatch):
    stream = BROKEN[request.param]()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_message_is_a_line(capsys):
    tell("reading")
    warn("no such line")
    tell("> ", end="")
    assert capsys.readouterr().err == "reading\nwarning: no such line\n> "


@pytest.mark.usefixtures("broken")
def test_a_message_that_cannot_be_written_is_lost(tmp_path):
    for say in (tell, warn):
        say("a line")
    standard_error().writelines(["two ", "parts\n"])
    with Progress(10, "update") as progress:
        progress.note = "loss 1.0"
        for _ in range(10):
            progress.update()
        tell("a line")
    (tmp_path / "log.jsonl").mkdir()  # so writing the log fails, which is reported to the user
    Log(Run(tmp_path))("train", 1)


@pytest.mark.usefixtures("broken")
def test_training_and_translating_from_python_do_not_stop(tiny_run, tmp_path):
    assert len(Translator.from_pretrained(tiny_run).translate(["the " * 100])) == 1  # warns about the cut
    folder = train(tiny_settings(tmp_path / "run", max_steps=2), say=tell)
    assert (folder / "last").read_text() == "step-00000002\n"


def test_all_else_is_the_streams_own():
    stream = UnfailingStream(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert stream.write("ä") == 1
    stream.flush()
    assert stream.encoding == "latin-1"
    assert stream.buffer.getvalue() == b"\xe4"
    assert not stream.isatty()
    assert not UnfailingStream(None).isatty()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_the_exit_code_is_not_changed(to, unbuffered):
    """Python flushes standard error again at exit."""
    program = "from transformer.messages import warn; warn('lost'); print('done')"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" 2>{to}', sys.executable, program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_nothing_else_writes_to_standard_error():
    """All messages and the progress bar use transformer.messages, where writing cannot fail."""
    allowed = {"messages.py", "cli/streams.py"}
    for path in sorted((ROOT / "transformer").rglob("*.py")):
        name = path.relative_to(ROOT / "transformer").as_posix()
        text = path.read_text(encoding="utf-8")
        if name not in allowed:
            assert "stderr" not in text, f"{name}: use transformer.messages"
        bars = re.findall(r"\btqdm\((?:[^()]|\([^()]*\))*\)", text)
        assert all("file=" in bar for bar in bars), f"{name}: a bar writes to transformer.messages' stream"


def test_the_version_is_that_of_this_project_under_its_own_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION != "transformer"
    assert project["scripts"] == {"transformer": "transformer.cli:main"}


def test_a_package_has_one_lower_bound_in_all_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds: dict[str, set[str]] = {}
    for each in (project["dependencies"], *project["optional-dependencies"].values()):
        for name, _, version in (requirement.partition(">=") for requirement in each):
            bounds.setdefault(name.partition("[")[0], set()).add(version)
    assert [name for name, versions in bounds.items() if len(versions) > 1] == []


def test_the_extras_that_messages_name_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "transformer").rglob("*.py")]
    named = {name for text in texts for name in re.findall(r"install_extra\(.(\w+).\)", text)}
    assert {"convert", "serve"} <= named <= project["optional-dependencies"].keys()
    assert not any("install 'transformer[" in text for text in texts)  # this project is not that one of PyPI
