"""The commands, from training to translation: their output and their error messages."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from argparse import SUPPRESS
from pathlib import Path

import pytest
from fixtures_run import events, tiny_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.checkpoint.run import Run
from transformer.cli import COMMANDS, main
from transformer.config.files import save_settings
from transformer.config.help import as_typed
from transformer.config.parser import CommandParser
from transformer.toyland import PHENOMENA, generate

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


class Streams:
    """Runs a command with the given bytes as standard input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        stdout, stderr = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            code = main(arguments)
        return code, stdout.buffer.getvalue(), stderr.getvalue()


@pytest.fixture
def call(monkeypatch) -> Streams:
    return Streams(monkeypatch)


@pytest.fixture
def translate(call, tiny_run):
    return lambda given, *options: call("translate", "--run", str(tiny_run), *options, given=given)


def test_from_training_to_an_averages_translations(call, tmp_path):
    save_settings(tiny_settings(tmp_path / "unused"), tmp_path / "tiny.yaml")
    folder = str(tmp_path / "run")
    arguments = ["train", "--config", str(tmp_path / "tiny.yaml"), "--output", folder]
    code, out, err = call(*arguments, "--training.max-steps", "4")
    assert (code, out) == (0, b"")
    trained, best, use, score = err.splitlines()[-4:]
    assert trained == f"trained model: {folder}"
    assert re.fullmatch(
        r"best checkpoint, update 4: loss [\d.]+ nats, perplexity .*, exact match 0.0 %", best
    )
    assert use == f"use it:    transformer translate --run {folder}"
    assert score == f"score it:  transformer evaluate --run {folder}"
    assert "\r" not in err  # as in a log file
    code, out, err = call(*arguments)
    assert code == 2
    assert f"transformer train: error: {folder} holds a run already; --resume continues it" in err
    assert call(*arguments, "--resume")[0] == 0
    assert Run(Path(folder)).steps() == [2, 4, 6]

    code, out, err = call("evaluate", "--run", folder, "--json")
    report = json.loads(out)
    assert code == 0
    assert {"checkpoint", "data", "sentences", "bleu", "bleu_signature", "exact_match"} < report.keys()
    assert {"chrf", "chrf_signature", "phenomena"} < report.keys()
    assert report["phenomena"].keys() == {*PHENOMENA, "all"}
    assert report["phenomena"]["all"]["sentences"] == report["sentences"] == 12
    code, out, err = call("evaluate", "--run", folder, "--beam-size", "1", "--show", "1")
    assert code == 0
    for part in ("BLEU", "chrF2", "exact match", report["bleu_signature"], "word for word", "reference  "):
        assert part in out.decode()

    code, out, err = call("average", "--run", folder, "--last", "2")
    assert (code, err) == (0, "")
    averaged = out.decode().removesuffix("\n")
    assert averaged.endswith("average-00000004-00000006-of-2")
    code, out, err = call("translate", "--run", averaged, given=b"the clock\n\nthe dog")
    assert (code, out.count(b"\n"), err) == (0, 3, "")
    assert out.splitlines()[1] == b""
    assert call("evaluate", "--run", averaged, "--data", "toyland:valid[:2]")[0] == 0


def test_a_validation_is_one_line_and_two_samples(call, tmp_path):
    save_settings(tiny_settings(tmp_path / "run", valid_every=2, max_steps=4), tmp_path / "tiny.yaml")
    code, _, err = call("train", "--config", str(tmp_path / "tiny.yaml"))
    assert code == 0
    assert "\r" not in err  # as it will be in a log file
    lines = err.splitlines()
    logged = events(tmp_path / "run", "valid")
    places = [place for place, line in enumerate(lines) if line.startswith("update ")]
    pairs = list(generate("valid", 8))
    is_better = logged[1]["loss"] < logged[0]["loss"]
    for place, entry, best in zip(places, logged, [True, is_better], strict=True):
        start = f"update {entry['step']}: loss {entry['loss']:.4f} nats, perplexity "
        assert lines[place].startswith(start)
        assert ("BLEU" in lines[place], lines[place].endswith(" (best so far by loss)")) == (True, best)
        samples = [lines[place + row : place + row + 3] for row in (1, 4)]
        for shown, sample, pair in zip(samples, entry["samples"], (pairs[0], pairs[2]), strict=True):
            assert (sample["source"], sample["reference"]) == (pair.source, pair.target)
            assert list(sample) == ["source", "translation", "reference"]
            assert shown == [f"    {label:11}  {text}".rstrip() for label, text in sample.items()]


# translate


@pytest.fixture(autouse=True)
def anything(monkeypatch):
    """The lines of these tests need not be toyland's: nothing warns of them."""
    monkeypatch.setattr("transformer.cli.translate.learned_toyland", lambda _: False)


@given(text=st.lists(st.binary(max_size=12) | st.just(b"die Uhr"), max_size=5).map(b"\n".join))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("on_error", ["skip", "replace"])
def test_any_bytes_give_exactly_one_line_per_line(translate, text, on_error):
    code, out, _ = translate(text, "--on-error", on_error)
    assert code == 0
    assert out.count(b"\n") == len(text.split(b"\n")) - (text == b"" or text.endswith(b"\n"))
    assert out == b"" or out.endswith(b"\n")
    assert b"\r" not in out
    out.decode()


def test_a_line_that_is_not_utf8_stops_after_what_came_before_it(translate):
    good = translate(b"the clock\nthe dog\n")[1]
    code, out, err = translate(b"the clock\nthe dog\nthe \xffcat\nthe boy\n")
    assert (code, out) == (2, good)
    assert err.startswith(
        "transformer translate: error: standard input, line 3: invalid UTF-8 at byte 5 (0xff); "
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_refused_by_name_or_keeps_its_number_of_lines(translate, encoding):
    text = "the clock\nthe dog\n".encode(encoding)
    code, out, err = translate(text)
    assert (code, out) == (2, b"")
    assert re.match(
        r"transformer translate: error: standard input, line 1: .*looks like UTF-16; convert", err
    )
    for on_error in ("skip", "replace"):
        assert translate(text, "--on-error", on_error)[1].count(b"\n") == len(
            text.removesuffix(b"\n").split(b"\n")
        )


def test_a_line_that_is_not_utf8_can_be_skipped_or_mended(translate):
    lines = b"the clock\nthe \xffcat\nthe dog\n"
    clock, dog = translate(b"the clock\nthe dog\n")[1].splitlines()
    mended = translate("the \ufffdcat\n".encode())[1].splitlines()
    assert translate(lines, "--on-error", "skip")[1].splitlines() == [clock, b"", dog]
    assert translate(lines, "--on-error", "replace")[1].splitlines() == [clock, *mended, dog]


@pytest.mark.parametrize("options", [["--buffer", "1"], ["--buffer", "2"], ["--buffer=1000"]])
def test_reading_in_parts_changes_nothing(translate, options):
    text = b"the clock\n\nthe dog sleeps\na\nb"
    assert translate(text, *options)[1] == translate(text)[1]


def test_a_long_lines_warning_counts_over_the_parts(translate):
    _, out, err = translate(b"a\nb\n" + b"clock " * 90 + b"\n", "--buffer", "1")
    assert out.count(b"\n") == 3
    assert err.startswith("warning: line 3 has ")


def test_columns(translate):
    text = b"the clock\n\nthe dog\n"
    plain = translate(text)[1].decode().split("\n")[:-1]
    scored = [line.split("\t") for line in translate(text, "--scores")[1].decode().split("\n")[:-1]]
    assert [row[1] for row in scored] == plain
    assert all(float(row[0]) <= 0 for row in scored)
    both = translate(text, "--scores", "--n-best", "2")[1].decode().split("\n")[:-1]
    rows = [line.split("\t") for line in both]
    assert [row[0] for row in rows] == ["1", "1", "2", "2", "3", "3"]
    assert [row[2] for row in rows[::2]] == plain
    assert [row[1] for row in rows[::2]] == [row[0] for row in scored]
    numbered = translate(text, "--n-best", "2")[1].decode().split("\n")[:-1]
    assert [line.split("\t") for line in numbered] == [[row[0], row[2]] for row in rows]


# Mistakes that the user can correct


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["translate"], "--run is missing"),
        (["translate", "--run", "nowhere"], "nowhere: neither a run's folder with a checkpoint nor a check"),
        (["evaluate", "--run", "nowhere"], "nowhere: neither a run's folder with a checkpoint nor a checkp"),
        (["average", "--run", "nowhere"], "nowhere: neither a run's folder with a checkpoint nor a checkpo"),
        (["average", "--run", "RUN", "--last", "9"], "has 3 checkpoints, so the last 9 cannot be averaged"),
        (["average", "--run", "RUN", "--last", "two"], "last: expected int, found 'two'"),
        (["translate", "--run", "RUN", "--beam-size", "0"], "--beam-size is 0; it must be at least 1"),
        (["translate", "--run", "RUN", "--buffer", "0"], "--buffer is 0; it must be at least 1"),
        (["translate", "--run", "RUN", "--alpha", "-1"], "decoding.alpha is -1.0; it must be 0 or more"),
        (
            ["translate", "--run", "RUN", "--n-best", "3"],
            "n_best is 3; it must be between 1 and beam_size, 2",
        ),
        (
            ["translate", "--run", "RUN", "--beem-size", "3"],
            "unknown option --beem-size; did you mean --beam",
        ),
        (["translate", "--run", "RUN", "--on-error", "x"], "argument --on-error: invalid choice: 'x'"),
        (["translate", "--run", "RUN", "--device", "gpu"], "device is 'gpu'; choose auto, cpu, cuda, cuda:N"),
        (["evaluate", "--run", "RUN", "--beam-size", "0"], "decoding.beam_size is 0; it must be greater th"),
        (["evaluate", "--run", "RUN", "--show", "-1"], "--show is -1; it must be 0 or more"),
        (["evaluate", "--run", "RUN", "--data", "nowhere"], "no corpus at 'nowhere': looked for nowhere.en"),
        (
            ["train", "--model.pad_id", "7", "--output", "unused"],
            "unk_id are (7, 1, 2, 3); the tokenizer's ids are",
        ),
        (
            ["train", "--data.train", "toyland:dev", "--output", "unused"],
            "toyland has no split 'dev'; choose",
        ),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, line, call, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(tiny_run) if argument == "RUN" else argument for argument in arguments]
    code, out, err = call(*arguments, given=b"the clock\n")
    assert (code, out) == (2, b"")
    assert err.splitlines()[-1].startswith(f"transformer {arguments[0]}: error: ")
    assert line in err.splitlines()[-1]
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_with_its_default(name, capsys, monkeypatch):
    parsers = []
    parse = CommandParser.parse_args
    monkeypatch.setattr(
        CommandParser,
        "parse_args",
        lambda self, *args, **how: parsers.append(self) or parse(self, *args, **how),
    )
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: transformer {name} ")
    assert all(len(line) <= 80 for line in text.splitlines())
    entries = {part.split()[0]: " ".join(part.split()) for part in text.split("\n  --")[1:]}
    for action in parsers[0]._actions:
        if action.nargs == "*" and not action.option_strings:
            assert f"{action.help} (required)" not in " ".join(text.split())
        entry = entries.get(action.option_strings[-1].lstrip("-"), "") if action.option_strings else ""
        if entry and action.required:
            assert entry.endswith("(required)")
        elif entry and action.nargs != 0 and action.default not in (None, SUPPRESS):
            assert re.search(rf"(default: |\[){re.escape(as_typed(action.default))}[])]", entry), entry
    assert entries or name == "recipes"
    assert "null" not in text


# In a separate process


def test_a_reader_who_leaves_early_is_no_error(tiny_run):
    command = f'"{sys.executable}" -m transformer translate --run "{tiny_run}" --buffer 1 | head -n 1'
    lines = b"The dog sleeps.\n" * 2000
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        input=lines,
        capture_output=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert result.stdout.count(b"\n") == 1
    assert result.stderr == b""
    assert result.returncode == 141


@pytest.mark.slow
def test_on_a_terminal_it_prompts_on_standard_error_and_only_translations_go_out(tiny_run):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "transformer", "translate", "--run", str(tiny_run)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    os.close(theirs)
    assert process.stdout is not None
    assert process.stderr is not None

    def prompt() -> bytes:
        seen, end = b"", time.monotonic() + 120
        while not seen.endswith(b"> ") and time.monotonic() < end:
            if select.select([process.stderr], [], [], 1)[0]:
                seen += os.read(process.stderr.fileno(), 100)
        return seen

    try:
        answers = []
        for line in (b"The dog sleeps.\n", b"\n", b"I sleep.\n"):
            assert prompt() == b"> "
            os.write(ours, line)
            answers.append(process.stdout.readline())  # each translation is written before the next prompt
        assert answers[1] == b"\n"
        assert prompt() == b"> "
        os.write(ours, b"\x04")  # Ctrl-D
        rest, last = process.communicate(timeout=60)
        assert (rest, last.strip(), process.returncode) == (b"", b"", 0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        os.close(ours)


@pytest.mark.slow
def test_on_a_terminal_lines_can_be_edited_and_called_back(tiny_run):
    """Backspace is left to any terminal; the arrow keys need readline."""
    pytest.importorskip("readline")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "transformer", "translate", "--run", str(tiny_run), "--scores"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "TERM": "xterm", "INPUTRC": os.devnull},
    )
    os.close(theirs)

    def screen(typed: bytes) -> list[str]:
        """What appears up to the next prompt, without the escape sequences of the terminal."""
        os.write(ours, typed)
        seen, end = b"", time.monotonic() + 120
        while not re.search(rb"\n[^\n]*> $", b"\n" + shown(seen)) and time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 1000)
        return shown(seen).decode().split("\r\n")

    def shown(seen: bytes) -> bytes:
        return re.sub(rb"\x1b\[[?\d;]*[a-zA-Z]", b"", seen)

    up, left = b"\x1b[A", b"\x1b[D"
    try:
        assert screen(b"") == ["> "]
        echo, translation, prompt = screen(b"The dog sleeps.\n")
        assert (echo, prompt) == ("The dog sleeps.", "> ")
        assert re.match(r"-\d+\.\d{4}\t", translation)
        assert screen(up + b"\n") == ["The dog sleeps.", translation, "> "]
        assert screen(b"The dog sleep." + left + b"s\n")[-2:] == [translation, "> "]
        os.write(ours, b"\x04")  # Ctrl-D
        assert process.wait(60) == 0
        assert process.stderr.read() == b"\n"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        os.close(ours)
