"""Dynamic batching: what waits is translated together, in order, and no request spoils another."""

import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from transformer.config import ModelConfig
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.decoding.lines import LineTranslator
from transformer.decoding.translation import Translation
from transformer.serving.batching import Batcher, BusyError, Kind

TOKENIZER = load_tokenizer(Path(__file__).parent / "data/run_v1/tokenizer.model")
WAIT = 30


class Echo(LineTranslator):
    """Returns each line as its translation, as soon as the gate is open; notes the lines of each batch."""

    device_type = "cpu"

    def __init__(self) -> None:
        super().__init__(TOKENIZER, model_config=ModelConfig(max_positions=16))
        self.gate, self.has_begun = threading.Event(), threading.Event()
        self.seen: list[list[str]] = []

    def translate_batch(self, sources, starts, options):  # noqa: ARG002
        self.has_begun.set()
        assert self.gate.wait(WAIT)
        lines = self.tokenizer.decode([ids[:-1] for ids in sources])
        self.seen.append(lines)
        if "bad" in lines:
            raise MemoryError("too little memory")
        return [[Translation(line, -1.0, []) for _ in range(options.n_best)] for line in lines]


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def batcher(echo):
    made = Batcher({"echo": echo}, batch_lines=4, waiting_lines=10)
    yield made
    echo.gate.set()
    made.close()
    assert not made.thread.is_alive()


def kind(echo, **options) -> Kind:
    return Kind("echo", echo.search_options(**{"n_best": 1, **options}), False)


def texts(answer) -> list[str]:
    return [row[0][0].text for row in answer.result(WAIT).results]


def begun(echo, batcher):
    """A first request that is being translated, so that whatever comes now has to wait."""
    answer = batcher.submit(kind(echo), ["first"])
    assert echo.has_begun.wait(WAIT)
    return answer


def test_what_waits_is_translated_together_and_each_request_gets_its_own_lines(echo, batcher):
    first = begun(echo, batcher)
    others = [batcher.submit(kind(echo), lines) for lines in (["a", "b"], [], ["c"])]
    assert batcher.waiting_lines() == 3
    echo.gate.set()
    assert [texts(answer) for answer in (first, *others)] == [["first"], ["a", "b"], [], ["c"]]
    assert [sorted(batch) for batch in echo.seen] == [["first"], ["a", "b", "c"]]
    assert (batcher.lines, batcher.batches, batcher.waiting_lines()) == (4, 2, 0)


def test_the_oldest_request_decides_which_kind_is_next(echo, batcher):
    begun(echo, batcher)
    wide = kind(echo, beam_size=7)
    answers = [
        batcher.submit(each, [line])
        for each, line in ((wide, "w"), (kind(echo), "n"), (wide, "x"), (kind(echo, alpha=0.0), "p"))
    ]
    echo.gate.set()
    assert [texts(answer) for answer in answers] == [["w"], ["n"], ["x"], ["p"]]
    assert [sorted(batch) for batch in echo.seen] == [["first"], ["w", "x"], ["n"], ["p"]]


def test_a_batch_has_a_limit_but_a_request_stays_whole(echo, batcher):
    begun(echo, batcher)
    answers = [batcher.submit(kind(echo), list(lines)) for lines in ("abc", "de", "f", "g")]
    echo.gate.set()
    assert [texts(answer) for answer in answers] == [list("abc"), list("de"), ["f"], ["g"]]
    assert [sorted(batch) for batch in echo.seen] == [["first"], list("abcf"), list("deg")]
    assert texts(batcher.submit(kind(echo), list("hijklm"))) == list("hijklm")
    assert len(echo.seen[-1]) == 6


def test_a_request_that_nobody_waits_for_is_not_translated(echo, batcher):
    begun(echo, batcher)
    given_up, wanted = (batcher.submit(kind(echo), [line]) for line in "ab")
    assert given_up.cancel()
    assert batcher.waiting_lines() == 1
    echo.gate.set()
    assert texts(wanted) == ["b"]
    assert echo.seen == [["first"], ["b"]]
    with pytest.raises(CancelledError):
        given_up.result(WAIT)


def test_too_many_waiting_lines_are_refused_and_the_others_answered(echo, batcher):
    begun(echo, batcher)
    answer = batcher.submit(kind(echo), ["a"] * 10)
    with pytest.raises(BusyError):
        batcher.submit(kind(echo), ["b"])
    echo.gate.set()
    assert texts(answer) == ["a"] * 10
    assert texts(batcher.submit(kind(echo), ["b"])) == ["b"]


def test_a_failure_only_concerns_its_own_request(echo, batcher):
    begun(echo, batcher)
    good, bad, other = (batcher.submit(kind(echo), [line]) for line in ("a", "bad", "c"))
    echo.gate.set()
    assert (texts(good), texts(other)) == (["a"], ["c"])
    with pytest.raises(MemoryError, match="too little memory"):
        bad.result(WAIT)
    assert texts(batcher.submit(kind(echo), ["d"])) == ["d"]


def test_a_closed_batcher_has_answered_what_waited(echo):
    batcher = Batcher({"echo": echo}, batch_lines=4, waiting_lines=10)
    begun(echo, batcher)
    answer = batcher.submit(kind(echo), ["a"])
    threading.Timer(0.05, echo.gate.set).start()
    batcher.close()
    assert answer.done()
    assert texts(answer) == ["a"]


def test_a_cut_line_is_reported_to_its_own_request(echo, batcher):
    begun(echo, batcher)
    short, long = batcher.submit(kind(echo), ["a", "b"]), batcher.submit(kind(echo), ["c", "d " * 40])
    echo.gate.set()
    assert short.result(WAIT).warnings == []
    (warning,) = long.result(WAIT).warnings
    assert warning.startswith("line 2 has ")
    assert warning.endswith("only its first 16 are translated")
