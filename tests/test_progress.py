"""Progress: a bar of fixed width on a terminal, lines without carriage returns elsewhere."""

import io
import re
import sys

import pytest

import transformer.progress
from transformer.cli import main
from transformer.messages import ABOVE_BARS, tell
from transformer.progress import Progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch):
    """Runs a piece of work of 1,000 units and returns what it writes to a stream."""

    def run(stream, total=1000, seconds=3.0, **options):
        clock = iter(range(10**6))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            patch.setattr(transformer.progress.time, "monotonic", lambda: seconds * next(clock))
            patch.setattr("tqdm.std.time", lambda: seconds * next(clock))
            with Progress(total, "update", **options) as progress:
                for number in range(1000):
                    progress.note = f"loss {9.9 - number / 200:.3f}, {number:7,.0f} tokens/s"
                    progress.update()
                    if number == 500:
                        tell("half")
        return stream.getvalue()

    return run


def test_in_a_file_there_is_a_line_every_30_seconds(shown):
    lines = shown(io.StringIO(), seconds=3.0).splitlines()
    assert "half" in lines
    lines.remove("half")
    assert 200 > len(lines) > 50
    pattern = r"\d+% [\d,]+/1,000 updates \[[\d:]+<[\d:]+, loss \d\.\d{3}, +\d+ tokens/s\]"
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_what_ends_soon_writes_no_line(shown):
    assert shown(io.StringIO(), seconds=0.001) == "half\n"


def test_there_are_no_carriage_returns_in_a_file(shown):
    assert "\r" not in shown(io.StringIO())
    assert "\r" in shown(Screen())


def test_on_a_terminal_the_bar_keeps_its_width(shown):
    bars = re.findall(r"\|(.{20})\| (.*?) updates \[", shown(Screen()))
    assert len(bars) > 10
    assert {len(count) for _, count in bars} == {len("1,000/1,000")}


def test_a_message_gets_a_separate_line_above_the_bar(shown):
    assert re.search(r"\r *\rhalf\n\r", shown(Screen()))
    assert ABOVE_BARS == []


def test_without_a_total_only_what_is_done_is_shown(shown):
    lines = shown(io.StringIO(), total=None).splitlines()
    assert all(re.fullmatch(r"[\d,]+ updates \[[\d:]+, loss .*\]|half", line) for line in lines)


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_hidden_progress_shows_only_messages(shown, stream):
    assert shown(stream(), hidden=True) == "half\n"


def test_translating_a_file_shows_its_lines(tiny_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").write_text("The dog sleeps.\n" * 3)
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--buffer", "2"]
    assert main(["translate", "--run", str(tiny_run), *files]) == 0
    assert re.findall(r"(\d)/3 lines", screen.getvalue())[-1] == "3"
    assert capsys.readouterr().out == ""


def test_the_interval_is_what_the_documents_say():
    assert transformer.progress.SECONDS_PER_LINE == 30
