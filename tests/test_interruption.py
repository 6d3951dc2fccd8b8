"""Signals: the training loop finishes its update; all other code ends at once, with a one-line message."""

import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from fixtures_run import tiny_settings

from transformer.checkpoint.run import Run
from transformer.cli import main
from transformer.recipe import silent, train
from transformer.training.interruption import (
    EXIT_CODE,
    SIGNALS,
    TrainingStopped,
    interrupting,
    stop_requests,
    stopping_at_once,
)

ROOT = Path(__file__).parents[1]
OTHERS = [number for number in SIGNALS if number != signal.SIGINT]


@pytest.fixture
def command(monkeypatch):
    """Replace a command by `run`."""

    def install(run, name="train"):
        module = ModuleType(f"transformer.cli.{name}")
        module.run = run
        monkeypatch.setitem(sys.modules, f"transformer.cli.{name}", module)

    return install


def outcome(number, prog="transformer train"):
    """Exit code and standard error of a command that a signal ended outside the training loop."""
    if number == signal.SIGINT:
        return 130, f"{prog}: interrupted\n"
    return EXIT_CODE, f"\n{prog}: stopped by {number.name}; everything is saved, continue with --resume\n"


def turned_into(error):
    """Turns the interrupt into another error, as a library or a half-imported module may do."""

    def run(number):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise error from None

    return run


def swallowed(number):
    with suppress(BaseException):
        signal.raise_signal(number)


class Destructor:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


def lost_in_a_destructor(number):
    """Raises the signal in a destructor, where Python only prints the exception and continues."""
    Destructor(number)
    wait()


def wait():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.001)
    pytest.fail("the signal was lost")


ENDINGS = {
    "as raised": signal.raise_signal,
    "swallowed": swallowed,
    "lost": lost_in_a_destructor,
    **{
        type(error).__name__: turned_into(error)
        for error in (
            *(ImportError("torch"), AttributeError("sympy"), RuntimeError("Numpy"), SystemError("C")),
            *(ValueError("a setting"), OSError(2, "No such file"), BrokenPipeError(), SystemExit(0)),
        )
    },
}


@pytest.mark.parametrize("number", OTHERS)
def test_a_dry_run_leaves_signals_to_the_system(number, command):
    """It saves nothing, so no message may say that it can be continued."""
    found = []
    command(lambda *_: found.append(signal.getsignal(number)))
    assert main(["train", "--dry-run"]) == main(["train"]) == 0
    assert found[0] == signal.getsignal(number) != found[1]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_training_in_one_line_whatever_becomes_of_the_exception(
    ending, number, command, capsys
):
    before, hook = [signal.getsignal(each) for each in SIGNALS], sys.unraisablehook
    command(lambda *_: ENDINGS[ending](number))
    assert (main(["train"]), capsys.readouterr().err) == outcome(number)
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert sys.unraisablehook == hook


@pytest.mark.parametrize("ending", ENDINGS)
def test_ctrl_c_ends_every_command_in_one_line(ending, command, capsys):
    command(lambda *_: ENDINGS[ending](signal.SIGINT), "table3")
    assert (main(["table3"]), capsys.readouterr().err) == outcome(signal.SIGINT, "transformer table3")


def test_an_import_is_not_cut_in_half(command, tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import signal\nsignal.raise_signal(15)\nis_whole = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def run(*_):
        importlib.import_module("slow_to_import")
        wait()

    command(run)
    assert main(["train"]) == EXIT_CODE
    assert sys.modules.pop("slow_to_import").is_whole


def test_a_second_ctrl_c_does_not_wait_for_an_import(command, tmp_path, monkeypatch):
    text = "import signal\nsignal.raise_signal(2)\nsignal.raise_signal(2)\nraise AssertionError\n"
    (tmp_path / "slow_to_import.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    cleaned_up = []

    def run(*_):
        try:
            importlib.import_module("slow_to_import")
        finally:
            time.sleep(0.1)  # the first one, which waited for the import, does not come now
            cleaned_up.append(True)

    command(run)
    assert main(["train"]) == 130
    assert cleaned_up


def test_a_clean_up_that_fails_after_a_signal_changes_nothing(command, capsys):
    """For example, because the clean-up uses a module whose import was interrupted by the signal."""

    def run(*_):
        try:
            with stopping_at_once():
                signal.raise_signal(signal.SIGTERM)
        finally:
            raise AttributeError("module 'sympy' has no attribute 'core'")

    command(run)
    assert (main(["train"]), capsys.readouterr().err) == outcome(signal.SIGTERM)


def test_an_error_without_a_signal_is_what_it_is(command):
    def run(*_):
        raise ImportError("ours")

    command(run)
    with pytest.raises(ImportError, match="ours"):
        main(["train"])


@pytest.mark.parametrize("number", SIGNALS)
def test_an_ignored_signal_stays_ignored(number, command):
    """`nohup` ignores SIGHUP, and a script's background jobs ignore SIGINT."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_requests() as request, stopping_at_once(), interrupting(SIGNALS) as at_once:
            signal.raise_signal(number)
            assert not request
            assert not at_once
        command(lambda *_: signal.raise_signal(number))
        assert main(["train"]) == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", OTHERS)
def test_a_second_signal_does_not_disturb_the_cleaning_up(number):
    with interrupting(SIGNALS) as request:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # while the first exception propagates
    assert request.name == number.name


def test_a_second_ctrl_c_does():
    with interrupting(SIGNALS):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_a_library_swallows_stops_the_loop_with_everything_saved(number, tmp_path, monkeypatch):
    """Between preparation and loop, only a handler of the caller can raise; here it is the command's."""
    settings = tiny_settings(tmp_path / "run", save_every=100)
    monkeypatch.setattr("transformer.recipe.Log", lambda *_, **__: swallowed(number) or silent)
    with interrupting(SIGNALS), pytest.raises(TrainingStopped, match=f"by {number.name} after update 1"):
        train(settings)
    run = Run(tmp_path / "run")
    assert run.marked("last") == run.checkpoint(1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_swallowed_in_preparation_ends_it(number, tmp_path, monkeypatch):
    monkeypatch.setattr("transformer.recipe.set_up", lambda *_: swallowed(number))
    error = KeyboardInterrupt if number == signal.SIGINT else TrainingStopped
    with pytest.raises(error):
        train(tiny_settings(tmp_path / "run"))


SIGNALLING = """
import os, signal, sys

class Finder:
    "Sends the signal when this module is about to be imported."

    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Finder())
from transformer.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("jsonargparse", signal.SIGTERM),
        ("torch._C", signal.SIGHUP),
        ("sympy.core", signal.SIGTERM),
        ("pyarrow.lib", signal.SIGINT),
    ],
)
def test_a_signal_while_a_library_is_imported_shows_no_traceback(module, number, tmp_path):
    arguments = ["--output", str(tmp_path / "run"), "--data.train", "toyland:train[:60]", "--device", "cpu"]
    arguments += ["--data.vocab_size", "330", "--model.num_layers", "1", "--data.valid", "toyland:valid[:8]"]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLING, module, str(int(number)), "train", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    code, line = outcome(number)
    assert done.returncode == code
    assert done.stderr.replace(" before the first update", "").endswith(line)
    assert not [word for word in ("Traceback", "Exception", "terminate") if word in done.stderr]
