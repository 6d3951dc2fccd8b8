"""Two processes give the same result as one, for every task and when something goes wrong.

The processes are forked, so that each test takes only seconds; `test_distributed.py` uses torchrun.
"""

import math
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_run import TINY_MODEL, events, tiny_settings
from test_distributed import assert_same_training

import transformer.training.loop as loop
from transformer.checkpoint.reading import read_state
from transformer.checkpoint.run import Run
from transformer.config import Settings
from transformer.data.tokenizers.loading import load_tokenizer
from transformer.decoding.translator import Translator
from transformer.model.build import build_model
from transformer.preparation import make_model
from transformer.recipe import train
from transformer.tasks.task import task_class
from transformer.tasks.translation import TranslationTask
from transformer.training.coordination import ProcessLostError
from transformer.training.distributed import Group, process_group
from transformer.training.finite import DivergedError

PROCESSES = 2
TASKS = {
    "translation": "encoder_decoder",
    "language_model": "decoder_only",
    "masked_language_model": "encoder_only",
    "classification": "encoder_only",
    "sentence_embedding": "encoder_only",
}


@contextmanager
def meeting_place() -> Iterator[dict[str, str]]:
    """Environment variables with the address where the processes of a group meet.

    The port is bound until the end of the block, so that no other program on this machine gets it; the first
    process can nevertheless listen there, because no one else does.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(held.getsockname()[1])}


def together(work: Callable[[int], object]) -> None:
    """Fork the processes of a group, and call `work` with the rank in each of them."""

    def member(rank: int) -> None:
        os.environ.update(place, RANK=str(rank), WORLD_SIZE=str(PROCESSES))
        work(rank)

    context = multiprocessing.get_context("fork")
    with meeting_place() as place:
        members = [context.Process(target=member, args=(rank,)) for rank in range(PROCESSES)]
        for process in members:
            process.start()
        for process in members:
            process.join(timeout=300)
            process.kill()  # if it still waits for another process
    assert [process.exitcode for process in members] == [0] * PROCESSES


def settings_of(task: str, folder: Path, **training: Any) -> Settings:
    """Settings for six updates of two batches without dropout, on texts with a small vocabulary."""
    words = ["red house", "blue tree", "green old car", "red cup", "small blue door", "hat"]
    lines = [f"the {word} is {place}" for word in words for place in ("here", "over there", "at home")]
    for name, written in {
        "text": lines,
        "labelled": [f"{line}\t{len(line) % 3}" for line in lines],
        "text.en": lines,
        "text.de": [" ".join(reversed(line.split())) for line in lines],
    }.items():
        (folder / name).write_text("".join(f"{line}\n" for line in written))
    is_labelled = task == "classification"
    text = str(folder / ("labelled" if is_labelled else "text"))
    data = {"train": text, "valid": text if "patience" in training else None, "test": None}
    data |= {"label_format": "tab" if is_labelled else None, "context": 16, "vocab_size": 300}
    sizes = {"accumulate": PROCESSES, "tokens_per_batch": 64, "save_every": 100, "timeout": 150.0, **training}
    made = tiny_settings(folder / "alone", data=data, **sizes)
    return replace(made, task=task, model=replace(TINY_MODEL, kind=TASKS[task], dropout=0.0))


def shared(settings: Settings) -> Settings:
    """The same updates, with their batches divided equally among the processes."""
    training = replace(settings.training, accumulate=settings.training.accumulate // PROCESSES)
    return replace(settings, output=f"{settings.output}-not", training=training)


def test_a_text_may_take_longer_to_read_than_training_waits():
    def prepare(rank):
        with process_group(torch.device("cpu"), timeout=4.0) as group:
            with group.first_alone():  # the first process alone, then the others
                time.sleep(5 if rank == 0 else 0.1)
            time.sleep(5 if rank == 1 else 0.1)
            group.wait()
            assert group.sum(1) == [PROCESSES]

    together(prepare)


def test_a_process_that_dies_while_a_text_is_read_is_noticed(capfd):
    def prepare():
        with process_group(torch.device("cpu"), timeout=60.0) as group:
            if group.rank == 1:
                time.sleep(1)
                os._exit(0)
            group.wait()

    def work(_):
        with pytest.raises(ProcessLostError, match="process 0 of 2: another process has died"):
            prepare()

    together(work)
    assert capfd.readouterr().err.count("continue with --resume") == 1


@pytest.mark.slow
def test_training_begins_when_all_have_read_the_text(tmp_path, monkeypatch):
    settings = settings_of("translation", tmp_path, timeout=8.0)
    tokenize = TranslationTask.tokenize

    def prepare(*arguments):
        time.sleep(10)
        return tokenize(*arguments)

    monkeypatch.setattr(TranslationTask, "tokenize", prepare)
    together(lambda _: train(shared(settings)))
    assert Run(Path(shared(settings).output)).steps()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_as_by_one_process(task, tmp_path):
    settings = settings_of(task, tmp_path, patience=100, valid_every=3)
    alone = Run(train(settings))
    together(lambda _: train(shared(settings)))
    ours = Run(Path(shared(settings).output))
    assert_same_training(ours, alone)
    found, expected = ([entry["loss"] for entry in events(run.path, "valid")] for run in (ours, alone))
    assert len(found) == 2
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_collected_is_in_order():
    def work(rank):
        with process_group(torch.device("cpu"), timeout=30.0) as group:
            for count in (0, 1, 2, 5):
                items = [f"number {item}" for item in range(count)]
                assert group.collect(items[rank::PROCESSES]) == items

    together(work)


@pytest.mark.parametrize("task", TASKS)
def test_the_processes_validate_a_text_between_them(task, tmp_path, monkeypatch):
    """With the same weights, their shares together give the same scores as a single process."""
    settings = settings_of(task, tmp_path, patience=100, valid_every=100)
    train(settings)
    tokenizer = load_tokenizer(Run(Path(settings.output)).tokenizer)
    made = task_class(task)(settings)
    settings = replace(made.settings, model=replace(made.settings.model, vocab_size=tokenizer.vocab_size))
    evaluate = made.validation(settings.data.valid, tokenizer, settings)
    model = make_model(settings, build_model, task_class(task), None).eval()
    expected = dict(evaluate(model, Group()))
    samples = expected.pop("samples", None)
    batches = type(evaluate.batches)
    fetched, translated = [], []
    fetch, translate = batches.fetch, Translator.translate

    def counted_fetch(self, rows):
        fetched.append(rows.tolist())
        return fetch(self, rows)

    def counted_translate(self, lines, **options):
        translated.extend(lines)
        return translate(self, lines, **options)

    monkeypatch.setattr(batches, "fetch", counted_fetch)
    monkeypatch.setattr(Translator, "translate", counted_translate)
    plan = evaluate.batches.epoch(0)
    assert len(plan) > 1

    def work(rank):
        with process_group(torch.device("cpu"), timeout=30.0) as group:
            found = dict(evaluate(model, group))
            assert found.pop("samples", None) == samples
            assert found == pytest.approx(expected, rel=1e-12)
            share = [rows.tolist() for rows in plan[rank::PROCESSES]]
            assert fetched in (share, share * 2)  # some tasks read the text twice
            assert translated == getattr(evaluate, "sources", [])[rank::PROCESSES]

    together(work)


def test_gradients_are_clipped_to_the_norm_of_the_whole_update(tmp_path):
    settings = settings_of("translation", tmp_path, max_norm=0.05)
    alone = Run(train(settings))
    together(lambda _: train(shared(settings)))
    ours = Run(Path(shared(settings).output))
    assert_same_training(ours, alone)
    norms, expected = (
        [entry["gradient_norm"] for entry in events(run.path, "train")] for run in (ours, alone)
    )
    assert norms == pytest.approx(expected, rel=1e-3)
    assert min(expected) > 0.05  # every update was clipped


def breaking(steps: set[int], patch: pytest.MonkeyPatch) -> None:
    """Make the loss, but not the gradient, of these updates NaN, so the other processes cannot notice it."""
    original, current = loop.accumulate_gradients, 0

    def accumulate(*arguments, **options):
        nonlocal current
        current += 1
        loss = original(*arguments, **options)
        return loss._replace(total=loss.total * math.nan) if current in steps else loss

    patch.setattr(loop, "accumulate_gradients", accumulate)


def test_what_is_not_finite_in_one_process_is_skipped_in_all(tmp_path, monkeypatch, capfd):
    settings = settings_of("translation", tmp_path)

    def work(rank: int) -> None:
        if rank == 1:
            breaking({2, 4}, monkeypatch)
        train(shared(settings))

    together(work)
    assert capfd.readouterr().err.count("update 2 was skipped") == 1  # only one process prints messages
    with monkeypatch.context() as patch:
        breaking({2, 4}, patch)
        alone = Run(train(settings))
    ours = Run(Path(shared(settings).output))
    assert [entry["step"] for entry in events(ours.path, "skip")] == [2, 4]
    assert_same_training(ours, alone)


def test_too_many_in_one_process_stop_all(tmp_path, monkeypatch):
    settings = shared(settings_of("translation", tmp_path, max_skipped=2))

    def work(rank: int) -> None:
        if rank == 1:
            breaking({3, 4, 5}, monkeypatch)
        with pytest.raises(DivergedError, match="update 5: loss or gradient is not finite"):
            train(settings)

    together(work)


def test_all_stop_early_by_what_the_first_process_has_validated(tmp_path, monkeypatch):
    settings = shared(settings_of("translation", tmp_path, patience=2, valid_every=1))
    found = {0: [3.0, 2.0, 2.5, 2.6, 1.0, 1.0], 1: [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]}

    def work(rank: int) -> None:
        losses = iter(found[rank])
        original = loop.fit
        evaluate = {"evaluate": lambda *_: {"loss": next(losses)}}
        monkeypatch.setattr(
            "transformer.recipe.fit", lambda *given, **named: original(*given, **named | evaluate)
        )
        train(settings)

    together(work)
    run = Run(Path(settings.output))
    assert [entry["step"] for entry in events(run.path, "early_stop")] == [4]
    assert read_state(run.marked("last"))["step"] == 4
    assert run.marked("best") == run.checkpoint(2)
