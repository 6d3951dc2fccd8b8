"""The entry point: it finds commands, and reports a user's mistakes in one line with exit code 2."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import transformer.cli
from transformer.cli import COMMANDS, SHOWS_WHERE, main
from transformer.config.command_line import read_settings

ROOT = Path(__file__).parents[1]
GIGABYTES = f"out of memory, while allocating 20.00 GiB; {SHOWS_WHERE}"
BYTES = f"out of memory, while allocating 8 bytes; {SHOWS_WHERE}"


@pytest.fixture
def command(monkeypatch):
    """Replace the command `train` by `run`."""

    def install(run):
        module = ModuleType("transformer.cli.train")
        module.run = run
        monkeypatch.setitem(sys.modules, "transformer.cli.train", module)

    return install


@pytest.fixture
def fails(command):
    def install(error):
        def run(*_):
            raise error

        command(run)

    return install


def python(*arguments: str, **keywords) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False, **keywords
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text and line in text for name, line in COMMANDS.items())
    assert "TRANSFORMER_TRACEBACK" in text


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_closed_streams_hold_nothing(closed):
    program = (
        "import sys; from transformer.cli import main; main(['--version']); print(len(sys.stdin.read()))"
    )
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, program],
        input="four",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\n0\n") if closed == "<&-" else result.stdout == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("transformer ")


def test_an_unknown_command_gets_the_nearest_name(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "transformer: error: unknown command trian; did you mean train?\n"
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err == "transformer: error: unknown command xyzzy; see transformer --help\n"


def test_a_command_gets_its_arguments_and_name_and_gives_the_exit_code(command):
    seen = []
    command(lambda arguments, prog: seen.append((arguments, prog)))
    assert main(["train", "--seed", "1"]) == 0
    assert seen == [(["--seed", "1"], "transformer train")]
    command(lambda arguments, _: len(arguments))
    assert main(["train", "a", "b", "c"]) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("model.d_k is 0;\n  it must be more"), "model.d_k is 0; it must be more"),
        (FileNotFoundError(2, "No such file or directory", "a.en"), "a.en: No such file or directory"),
        (ValueError(), "ValueError"),
        (MemoryError(), f"out of memory; {SHOWS_WHERE}"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …"), GIGABYTES),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), BYTES),
        (RuntimeError("Storage size calculation overflowed with sizes=[9]"), f"out of memory; {SHOWS_WHERE}"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), BYTES),
        (OverflowError("int too large"), f"a number is too large (int too large); {SHOWS_WHERE}"),
        (RecursionError("at 1000"), f"something is nested too deeply (at 1000); {SHOWS_WHERE}"),
        (OSError(36, "File name too long", "a" * 5000), f"{'a' * 150}…{'a' * 150}: File name too long"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_user_can_mend_is_one_line(error, line, fails, capsys, monkeypatch):
    monkeypatch.delenv("TRANSFORMER_TRACEBACK", raising=False)
    fails(error)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == f"transformer train: error: {line}\n"


@pytest.mark.parametrize("error", [ValueError, MemoryError, OverflowError, RecursionError])
def test_the_environment_variable_keeps_the_traceback(error, fails, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_TRACEBACK", "1")
    fails(error("seed is -1"))
    with pytest.raises(error, match="seed is -1"):
        main(["train"])


@pytest.mark.parametrize("error", [AssertionError, TypeError, RuntimeError, KeyError])
def test_our_own_mistakes_keep_their_traceback(error, fails):
    fails(error("ours"))
    with pytest.raises(error, match="ours"):
        main(["train"])


def test_an_interrupt_is_one_line_and_130(fails, capsys):
    fails(KeyboardInterrupt())
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "transformer train: interrupted\n"


def test_errors_in_settings_reach_the_user_as_one_line(command, capsys, tmp_path):
    command(lambda arguments, prog: read_settings(arguments, prog=prog) and None)
    path = tmp_path / "x.yaml"
    path.write_text("model: {d_modle: 3}")
    lines = {
        f"--config={path}": f"{path}: unknown setting model.d_modle; did you mean model.d_model?",
        "--config=nowhere.yaml": "nowhere.yaml: no such file, and no recipe of this name; "
        "see transformer recipes",
        "--sede=3": "command line: unknown option --sede; did you mean --seed?",
        "--model.dropout=2": "model.dropout is 2.0; it must be at least 0 and less than 1",
    }
    for argument, line in lines.items():
        assert main(["train", argument]) == 2
        assert capsys.readouterr().err == f"transformer train: error: {line}\n"


@pytest.mark.parametrize(
    ("modules", "slow"),
    [
        ("transformer.cli", {"torch", "datasets", "jsonargparse"}),
        (", ".join(f"transformer.cli.{name.replace('-', '_')}" for name in COMMANDS), {"torch", "datasets"}),
    ],
    ids=["door", "commands"],
)
def test_what_is_slow_to_import_is_left_for_later(modules, slow):
    """The entry point imports no parser, and a command's options can be parsed without torch."""
    code = f"import sys, {modules}; assert not {slow} & set(sys.modules)"
    assert python("-c", code).stderr == ""


def test_every_command_has_a_script_that_is_the_same_program():
    # scripts/inspect.py would hide Python's own module `inspect` from every script
    names = {name: "inspect_sentence" if name == "inspect" else name for name in COMMANDS}
    assert {path.stem for path in (ROOT / "scripts").glob("*.py")} == set(names.values())
    for name in COMMANDS:
        assert f'main(["{name}", *sys.argv[1:]])' in (ROOT / "scripts" / f"{names[name]}.py").read_text()


def test_module_and_shell_see_the_same_door():
    result = python("-m", "transformer", "trian")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "transformer: error: unknown command trian; did you mean train?\n"


def test_a_reader_that_leaves_early_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "transformer", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, b"")


def test_the_table_of_commands_gives_module_names():
    assert all(name.replace("-", "_").isidentifier() for name in transformer.cli.COMMANDS)
