"""The advice when updates become much slower: once, and only with threads that wait for each other."""

import pytest
from fixtures_run import tiny_settings

from transformer.recipe import train
from transformer.training import loop
from transformer.training.slowdown import WINDOW, Slowdown

SLOW_START, NORMAL, BUSY = [2.0], [0.1] * 3 * WINDOW, [0.5] * 3 * WINDOW


def lines(durations: list[float], threads: int = 2) -> list[str]:
    slowdown = Slowdown(threads)
    return [line for seconds in durations if (line := slowdown.advice(seconds))]


def test_one_line_advises_one_thread_when_updates_have_become_slow():
    [line] = lines(SLOW_START + NORMAL + BUSY + NORMAL + BUSY)
    assert "updates take 5 times as long as before" in line
    assert "OMP_NUM_THREADS=1" in line


@pytest.mark.parametrize(
    "durations",
    [
        SLOW_START + NORMAL,
        BUSY + NORMAL,
        [*NORMAL, 60.0, *NORMAL],  # a laptop that was closed for a minute
        [0.1, 0.2] * WINDOW,
        [0.1] * WINDOW + [0.2] * WINDOW,
    ],
)
def test_no_advice_without_a_lasting_slowdown(durations):
    assert lines(durations) == []


def test_one_thread_waits_for_none():
    assert lines(NORMAL + BUSY, threads=1) == []


def test_a_training_gives_the_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Slowdown, "advice", lambda self, seconds: f"slow {self.is_watching} {seconds >= 0}")
    monkeypatch.setattr(loop.torch, "get_num_threads", lambda: 2)
    train(tiny_settings(tmp_path / "run", max_steps=1))
    assert "warning: slow True True" in capsys.readouterr().err
