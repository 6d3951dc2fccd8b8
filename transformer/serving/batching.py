"""Dynamic batching: requests that arrive while a batch is being translated become the next batch.

One thread owns the translators, because a model's forward passes must not overlap. There is no fixed delay:
on an idle server a request is translated at once, and the busier the server, the larger its batches.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from transformer.decoding.lines import LineTranslator, SearchOptions
from transformer.decoding.translation import Translation

if TYPE_CHECKING:
    from transformer.decoding.translator import Translator  # imports torch

Outputs = Sequence[tuple[Translation, str | None]]
"""The outputs for one line, best first, each with its word alignment if the request asked for it."""


class BusyError(Exception):
    """Too many lines are waiting already."""


class Kind(NamedTuple):
    """The properties that requests must have in common to be translated in one batch."""

    model: str
    options: SearchOptions
    with_alignment: bool


class Answer(NamedTuple):
    """The translations of one request."""

    results: list[Outputs]
    warnings: list[str]
    """A warning for each line that was cut to the model's `max_positions`; lines are counted from 1."""


@dataclass(frozen=True)
class Job:
    """The lines of one request, and the future that receives their translations."""

    kind: Kind
    lines: Sequence[str]
    answer: "Future[Answer]" = field(default_factory=Future)


class Batcher:
    """Translates requests in its own thread: the oldest first, batched with later ones of the same kind.

    A request is never split between batches. A batch has at most `batch_lines` lines, unless it is a single
    request with more.
    """

    def __init__(
        self, translators: Mapping[str, LineTranslator], *, batch_lines: int, waiting_lines: int
    ) -> None:
        self.translators = translators
        self.batch_lines = batch_lines
        self.most_waiting = waiting_lines
        self.waiting: deque[Job] = deque()
        self.changed = threading.Condition()
        self.is_closed = False
        self.lines = self.batches = 0  # translated so far
        self.thread = threading.Thread(target=self.work, name="translate", daemon=True)
        self.thread.start()

    def submit(self, kind: Kind, lines: Sequence[str]) -> "Future[Answer]":
        """Queue a request and return a future for its translations.

        Cancel the future if its result is no longer needed. Raises `BusyError` if too many lines are waiting.
        """
        job = Job(kind, lines)
        with self.changed:
            if self.waiting_lines() + len(lines) > self.most_waiting:
                raise BusyError
            self.waiting.append(job)
            self.changed.notify()
        return job.answer

    def waiting_lines(self) -> int:
        with self.changed:
            return sum(len(job.lines) for job in self.waiting if not job.answer.cancelled())

    def close(self) -> None:
        """Answer the waiting requests, then end the thread."""
        with self.changed:
            self.is_closed = True
            self.changed.notify()
        self.thread.join()

    def work(self) -> None:
        while jobs := self.take():
            self.answer(jobs)

    def take(self) -> list[Job]:
        """Wait for the next batch and return it; return [] if the batcher is closed and no job is waiting."""
        with self.changed:
            while True:
                self.changed.wait_for(lambda: self.waiting or self.is_closed)
                if not self.waiting:
                    return []
                chosen: list[Job] = []
                others: list[Job] = []
                size = 0
                for job in self.waiting:
                    fits = not chosen or size + len(job.lines) <= self.batch_lines
                    if fits and job.kind == (chosen[0] if chosen else job).kind:
                        chosen.append(job)
                        size += len(job.lines)
                    else:
                        others.append(job)
                self.waiting = deque(others)
                if running := [job for job in chosen if job.answer.set_running_or_notify_cancel()]:
                    return running

    def answer(self, jobs: Sequence[Job]) -> None:
        """Translate the jobs together, or separately if that fails, so that only faulty jobs fail."""
        try:
            answers = self.translate(jobs)
        except Exception as error:  # out of memory, for example
            if len(jobs) == 1:
                jobs[0].answer.set_exception(error)
            else:
                for job in jobs:
                    self.answer([job])
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.answer.set_result(answer)

    def translate(self, jobs: Sequence[Job]) -> list[Answer]:
        kind = jobs[0].kind
        translator = self.translators[kind.model]
        warnings = [cut_lines(translator, job.lines) for job in jobs]
        lines = [line for job in jobs for line in job.lines]
        found = translator.translate_n_best(
            lines, n_best=kind.options.n_best, beam_size=kind.options.beam_size, alpha=kind.options.alpha
        )
        self.lines += len(lines)
        self.batches += 1
        rows: Sequence[Outputs] = [[(output, None) for output in outputs] for outputs in found]
        if kind.with_alignment:
            rows = cast("Translator", translator).with_alignments(lines, found)
        rest = iter(rows)
        return [
            Answer(list(islice(rest, len(job.lines))), cut) for job, cut in zip(jobs, warnings, strict=True)
        ]


def cut_lines(translator: LineTranslator, lines: Sequence[str]) -> list[str]:
    """Return the warnings about one request's lines, in which the request's first line has number 1."""
    found: list[str] = []
    translator.warn = found.append
    translator.encode(lines, first_line=1)
    translator.warn = ignore
    return found


def ignore(_: str) -> None:
    """Drop a warning about a batch, because `cut_lines` collects the warnings for each request."""
