"""Checkpoints of which every process writes its own parts equal those that the first process writes alone.

The two processes are forked, as in `test_forked_group.py`. They find no memory for a copy of the whole state.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distributed import assert_same_training
from test_forked_group import PROCESSES, settings_of, together
from test_fully_sharded import assert_same_moments, divided

from transformer.checkpoint import shards
from transformer.checkpoint.averaging import average_checkpoints
from transformer.checkpoint.format import MODEL, OPTIMIZER
from transformer.checkpoint.reading import file_hash, read_manifest
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.config import Settings
from transformer.decoding.translator import Translator
from transformer.files import UNFINISHED
from transformer.recipe import train
from transformer.training import memory, saving, state
from transformer.training.distributed import process_group


def refused(*_: Any, **__: Any) -> None:
    raise AssertionError("this way of saving was not to be used")


def save_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the first process no memory for a copy of the state; each process writes several files."""
    monkeypatch.setattr(saving, "has_room_for", lambda _: False)
    monkeypatch.setattr(shards, "FILE_BYTES", 5000)


def few_updates(folder: Path) -> Settings:
    """Six updates, three checkpoints; some matrices are tied, others have an odd number of rows."""
    made = settings_of("translation", folder, save_every=2, keep=9)
    assert made.model.tie_embeddings
    return replace(made, model=replace(made.model, d_ff=33))


@pytest.fixture(autouse=True)
def without_memory(monkeypatch):
    save_in_parts(monkeypatch)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return few_updates(tmp_path)


def leftovers(run: Run) -> list[Path]:
    return list(run.checkpoints.glob(f"{UNFINISHED}*"))


def test_a_run_saved_in_parts_equals_one_saved_whole(settings, tmp_path, monkeypatch):
    parts = divided(settings)
    whole = replace(parts, output=str(tmp_path / "whole"))

    def decide(*answers: bool) -> None:  # only once
        remaining = iter(answers)
        monkeypatch.setattr(saving, "has_room_for", lambda _: next(remaining))

    def save_parts(rank: int) -> None:
        monkeypatch.setattr(state, "host_copies", refused)
        decide(rank == 1)  # the memory of the other process does not matter
        train(parts)

    def save_whole(rank: int) -> None:
        monkeypatch.setattr(state, "write_shards", refused)
        decide(rank == 0)
        train(whole)

    together(save_parts)
    together(save_whole)
    ours, theirs = Run(Path(parts.output)), Run(Path(whole.output))
    assert ours.steps() == theirs.steps() == [2, 4, 6]
    for step in ours.steps():
        folder, expected = ours.checkpoint(step), theirs.checkpoint(step)
        assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}
        assert read_manifest(folder)["files"].keys() == {MODEL, OPTIMIZER, "state.json"}
        for name in (MODEL, OPTIMIZER):
            torch.testing.assert_close(
                read_tensors(folder / name), read_tensors(expected / name), rtol=0, atol=0
            )
    assert not leftovers(ours)
    means = [read_tensors(average_checkpoints(run, 3) / MODEL) for run in (ours, theirs)]
    torch.testing.assert_close(*means, rtol=0, atol=0)
    lines = ["red house", "blue tree"]
    found, expected = (
        Translator.from_pretrained(run.path, device="cpu").translate(lines) for run in (ours, theirs)
    )
    assert found == expected


def test_one_and_two_processes_continue_a_run_saved_in_parts(settings):
    alone = Run(train(settings))
    ours = divided(settings)
    together(lambda _: train(replace(ours, training=replace(ours.training, max_steps=2))))
    one = replace(settings, output=ours.output)
    train(replace(one, training=replace(one.training, max_steps=4)), resume=True)
    together(lambda _: train(ours, resume=True))
    run = Run(Path(ours.output))
    assert_same_training(run, alone)
    assert_same_moments(run, alone)
    assert not leftovers(run)


def test_tensors_of_every_type_and_shape_are_merged(tmp_path):
    whole = {
        "rows": torch.arange(15.0).reshape(5, 3),
        "row": torch.ones(1, 4),  # the second process has no part of it
        "half": torch.randn(4, 2).bfloat16(),
        "cube": torch.randn(3, 2, 2, dtype=torch.float64),
    }
    others = {"step": torch.tensor(7.0), "count": torch.tensor([2**40, 3]), "flag": torch.tensor(True)}
    others["transposed"] = torch.arange(12.0).reshape(3, 4).t()
    others["view"] = others["count"].view(1, 2)  # shares the memory of another tensor

    def work(_: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard, distribute_tensor

        with process_group(torch.device("cpu"), timeout=30.0) as group:
            mesh = init_device_mesh("cpu", (PROCESSES,))
            tensors = {name: distribute_tensor(value, mesh, [Shard(0)]) for name, value in whole.items()}
            tensors["columns"] = distribute_tensor(whole["rows"], mesh, [Shard(1)])
            tensors["transposed_rows"] = tensors["columns"].clone().t()
            write = shards.write_shards(tensors | others, tmp_path / "parts", group.untimed)
            if group.is_first:
                assert write(tmp_path / "merged") == file_hash(tmp_path / "merged")
                next((tmp_path / "parts").glob("shard-00002*")).unlink()
                with pytest.raises(OSError, match=r"parts of \w+ are missing"):
                    write(tmp_path / "again")

    together(work)
    expected = whole | others | {"columns": whole["rows"], "transposed_rows": whole["rows"].t()}
    torch.testing.assert_close(read_tensors(tmp_path / "merged"), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("there", "fits"), [(500, True), (499, False), (None, True)])
def test_copies_may_take_four_fifths_of_the_available_memory(there, fits, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: there)
    assert memory.has_room_for([torch.zeros(40), torch.zeros(60)]) is fits


def test_memory_that_only_caches_files_is_available(tmp_path, monkeypatch):
    machine, use, limit, parts = (tmp_path / name for name in ("meminfo", "current", "max", "stat"))
    monkeypatch.setattr(memory, "MACHINE_USE", str(machine))
    monkeypatch.setattr(memory, "CONTAINER_LIMITS", (str(limit),))
    monkeypatch.setattr(memory, "CONTAINER_USE", ((str(use), str(parts)),))
    assert memory.available_bytes() is None
    machine.write_text("MemTotal:  90 kB\nMemAvailable:    50 kB\n")
    assert memory.available_bytes() == 50 * 1024
    use.write_text("30000\n")
    limit.write_text("max\n")
    assert memory.available_bytes() == 50 * 1024
    limit.write_text("40000\n")
    parts.write_text("anon 1\ninactive_file 6000\nactive_file 500\n")
    assert memory.available_bytes() == 16_500
    limit.write_text("4000000\n")
    assert memory.available_bytes() == 50 * 1024
