"""`training.parallel: fsdp`: a model divided among processes trains like a whole one, to equal checkpoints.

Most tests fork two processes (`test_forked_group.py`); some use torchrun (`test_distributed.py`).
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures_run import TINY_MODEL, events, tiny_settings
from test_distributed import TESTS, assert_same_training, changed, losses, torchrun
from test_forked_group import PROCESSES, TASKS, breaking, settings_of, shared, together

from transformer.checkpoint.format import MODEL, OPTIMIZER, CheckpointError
from transformer.checkpoint.parts import own_values, whole
from transformer.checkpoint.run import Run
from transformer.checkpoint.weights import read_tensors
from transformer.cli import main
from transformer.config import Settings
from transformer.decoding.translator import Translator
from transformer.model.build import build_model
from transformer.preparation import make_model
from transformer.recipe import plan, train
from transformer.tasks.task import task_class
from transformer.training.deferred import Deferred
from transformer.training.distributed import process_group
from transformer.training.finite import DivergedError
from transformer.training.memory import own_numbers
from transformer.training.parallel import gathered
from transformer.training.update_rule import part_of

CPU = torch.device("cpu")


def divided(settings: Settings, **training: Any) -> Settings:
    """The same updates, with batches and parameters divided among the processes."""
    ours = shared(settings)
    return replace(ours, training=replace(ours.training, parallel="fsdp", **training))


def assert_same_moments(ours: Run, theirs: Run) -> None:
    moments, expected = (read_tensors(run.marked("last") / OPTIMIZER) for run in (ours, theirs))
    torch.testing.assert_close(moments, expected, rtol=1e-3, atol=1e-6)


# The initial values


@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only", "encoder_only"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"output_bias": True, "attention_bias": True, "positions": "learned"},
        {"norm": "pre", "residual_gain": 0.5},
    ],
)
def test_values_computed_after_the_build_are_those_of_an_ordinary_build(kind, changes):
    """Without tied matrices, because only parameters that are divided stay tied when they get memory."""
    config = replace(TINY_MODEL, kind=kind, vocab_size=50, tie_embeddings=False, **changes)
    torch.manual_seed(3)
    expected = build_model(config)
    deferred = Deferred(lambda: build_model(config))
    assert all(parameter.is_meta for parameter in deferred.model.parameters())
    torch.manual_seed(3)
    deferred.fill(CPU)
    torch.testing.assert_close(deferred.model.state_dict(), expected.state_dict(), rtol=0, atol=0)


def test_a_model_of_gpt_3s_sizes_is_planned_without_memory(tmp_path, monkeypatch, capsys):
    """The command of a user, with a tokenizer that claims to have GPT-3's vocabulary."""
    (tmp_path / "text").write_text("words of a text\n" * 100)
    sizes = {"d_model": 12_288, "num_heads": 96, "d_ff": 49_152, "num_layers": 96, "max_positions": 2048}
    kinds = {"kind": "decoder_only", "norm": "pre", "activation": "gelu", "positions": "learned"}
    options = {f"model.{name}": value for name, value in {**sizes, **kinds, "attention_bias": True}.items()}
    options |= {"data.train": tmp_path / "text", "data.valid": "null", "data.tokenizer": "characters"}
    options |= {"data.context": 128, "training.parallel": "fsdp"}
    monkeypatch.setattr(
        "transformer.preparation.with_vocabulary", lambda model, _: replace(model, vocab_size=50_257)
    )
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["train", *arguments, "--dry-run"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["parameters", "174,604,259,328"]
    processes, state, gathered_layers, total = (float(word) for word in last.split())
    assert state == pytest.approx(174_604_259_328 * 16 / processes / 2**30, rel=1e-3)
    assert state < gathered_layers < total < 80  # GiB


def test_each_process_holds_its_part_and_all_of_them_the_model(tmp_path):
    settings = settings_of("translation", tmp_path)
    settings = replace(settings, model=replace(settings.model, vocab_size=51))  # an odd number of rows
    task = task_class("translation")
    expected = make_model(settings, build_model, task, None)

    def work(rank: int) -> None:
        with process_group(CPU, timeout=30.0) as group:
            model = make_model(divided(settings), build_model, task, None, CPU, group)
            held = 0
            for (name, parameter), whole_one in zip(
                model.named_parameters(), expected.parameters(), strict=True
            ):
                assert torch.equal(whole(parameter.detach()), whole_one), name
                held += own_values(parameter).numel()
            assert model.output.weight is model.encoder.embedding.embedding.weight
            shapes = [parameter.shape for parameter in expected.parameters()]
            bound = sum(own_numbers(shape, PROCESSES) for shape in shapes)
            assert held == bound if rank == 0 else held <= bound
            tokens = torch.ones(2 + rank, 3, dtype=torch.int64)  # the processes compute different things
            model(tokens[:2], tokens[:2])
            with gathered(model), torch.no_grad():
                for _ in range(1 + rank):
                    torch.testing.assert_close(model(tokens, tokens), expected(tokens, tokens))
            assert sum(own_values(parameter).numel() for parameter in model.parameters()) == held

    together(work)


# Training


def test_whole_and_divided_models_continue_each_others_runs(tmp_path):
    settings = settings_of("translation", tmp_path, patience=100, valid_every=2, max_norm=0.5, accumulate=4)
    alone = Run(train(settings))
    first = divided(settings, max_steps=2)
    together(lambda _: train(first))
    replicated = replace(shared(settings), training=replace(shared(settings).training, max_steps=4))
    together(lambda _: train(replicated, resume=True))
    together(lambda _: train(divided(settings), resume=True))
    ours = Run(Path(first.output))
    assert_same_training(ours, alone)
    assert_same_moments(ours, alone)
    for kind, name in (("train", "gradient_norm"), ("valid", "loss")):
        found, expected = ([entry[name] for entry in events(run.path, kind)] for run in (ours, alone))
        assert found == pytest.approx(expected, rel=1e-3)
    assert len(Translator.from_pretrained(ours.path, device="cpu").translate(["red house"])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_as_by_one_process(task, tmp_path):
    settings = settings_of(task, tmp_path, patience=100, valid_every=3)
    alone = Run(train(settings))
    together(lambda _: train(divided(settings)))
    ours = Run(Path(divided(settings).output))
    assert_same_training(ours, alone)
    assert_same_moments(ours, alone)
    found, expected = ([entry["loss"] for entry in events(run.path, "valid")] for run in (ours, alone))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_products_have_the_precision_of_a_whole_model(precision, tmp_path):
    settings = replace(settings_of("translation", tmp_path), precision=precision)
    alone = Run(train(settings))
    together(lambda _: train(divided(settings)))
    assert_same_training(Run(Path(divided(settings).output)), alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"tie_embeddings": False, "output_bias": True, "positions": "learned"},
        {"norm": "pre", "num_layers": 3, "num_decoder_layers": 1},
    ],
)
@pytest.mark.parametrize("recompute", [False, True])
def test_other_models_are_divided_too(model, recompute, tmp_path):
    settings = settings_of("translation", tmp_path)
    settings = replace(settings, model=replace(settings.model, **model))
    alone = Run(train(settings))
    together(lambda _: train(divided(settings, recompute=recompute), build=lambda c: build_model(c)))
    assert_same_training(Run(Path(divided(settings).output)), alone)


@pytest.mark.slow
def test_muon_differs_only_by_the_rounding_of_its_bfloat16(tmp_path):
    settings = settings_of("translation", tmp_path, optimizer="muon")
    alone = Run(train(settings))
    together(lambda _: train(divided(settings)))
    ours = Run(Path(divided(settings).output))
    assert losses(ours) == pytest.approx(losses(alone), rel=1e-3)
    found, expected = (read_tensors(run.marked("last") / MODEL) for run in (ours, alone))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


# When something goes wrong


def test_what_is_not_finite_in_one_process_is_skipped_in_all_and_too_many_stop_all(tmp_path, monkeypatch):
    settings = divided(settings_of("translation", tmp_path, max_skipped=2, save_every=2))

    def work(rank: int) -> None:
        if rank == 1:
            breaking({1, 3, 4, 5}, monkeypatch)
        with pytest.raises(DivergedError, match="update 5: loss or gradient is not finite"):
            train(settings)

    together(work)
    run = Run(Path(settings.output))
    assert [entry["step"] for entry in events(run.path, "skip")] == [1, 3, 4]
    assert run.marked("last") == run.checkpoint(4)


@pytest.mark.slow
def test_a_parameter_that_is_not_finite_stops_all_and_nothing_is_saved(tmp_path):
    settings = divided(settings_of("translation", tmp_path, save_every=2))

    def spoil(model: Any) -> dict[str, float]:
        if spoil.calls:
            with torch.no_grad():
                own_values(model.decoder.blocks[0].feed_forward.w_1.bias).fill_(math.inf)
        spoil.calls += 1
        return {}

    spoil.calls = 0

    def work(_: int) -> None:
        with pytest.raises(DivergedError, match="is not finite; nothing was saved"):
            train(settings, figures=spoil)

    together(work)
    assert not Run(Path(settings.output)).steps()


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """Six updates of four batches without dropout."""
    made = tiny_settings(
        tmp_path_factory.mktemp("alone") / "run",
        data={"valid": None},
        accumulate=4,
        save_every=3,
        tokens_per_batch=200,
    )
    return replace(made, model=replace(TINY_MODEL, dropout=0.0))


@pytest.mark.slow
def test_four_processes_continue_as_two_after_one_has_died(settings, tmp_path):
    alone = Run(train(settings))
    output = tmp_path / "run"
    begun = changed(settings, output, accumulate=1, parallel="fsdp", timeout=60.0)
    died = torchrun(4, begun, program=(str(TESTS / "faulty_worker.py"),))
    assert died.returncode != 0
    assert "another process has died or did not answer within 60 s" in died.stderr
    run = Run(output)
    assert run.marked("last") == run.checkpoint(3)
    done = torchrun(2, changed(settings, output, accumulate=2, parallel="fsdp"))
    assert done.returncode == 0, done.stderr
    assert_same_training(run, alone)
    assert_same_moments(run, alone)


@pytest.mark.slow
def test_torchrun_restarts_what_has_died_and_nothing_is_lost(settings, tmp_path):
    alone = Run(train(replace(settings, output=str(tmp_path / "alone"))))
    ours = changed(settings, tmp_path / "run", accumulate=2, parallel="fsdp", timeout=60.0)
    done = torchrun(2, ours, "--max-restarts", "1", program=(str(TESTS / "faulty_worker.py"),))
    assert done.returncode == 0, done.stderr
    assert_same_training(Run(tmp_path / "run"), alone)


@pytest.mark.slow
def test_compiled_training_of_a_divided_model_is_the_same(settings, tmp_path):
    """Under torchrun, because the run-time checks of shapes break compilation."""
    alone = Run(train(replace(settings, output=str(tmp_path / "alone"))))
    sizes = {"accumulate": 2, "compile": True, "recompute": True, "timeout": 300.0}
    done = torchrun(2, changed(settings, tmp_path / "run", parallel="fsdp", **sizes))
    assert done.returncode == 0, done.stderr
    assert_same_training(Run(tmp_path / "run"), alone)


def test_a_loss_that_is_not_finite_in_one_process_stops_all_of_them(tmp_path):
    settings = divided(settings_of("translation", tmp_path), max_skipped=1)

    def work(rank: int) -> None:
        def build(config: Any) -> torch.nn.Module:
            model = build_model(config)
            if rank == 1:
                model.encoder.register_forward_hook(lambda _module, _inputs, output: output * math.nan)
            return model

        with pytest.raises(DivergedError, match=("in the gradient of", "in the output of encoder")[rank]):
            train(settings, build=build)

    together(work)


def test_figures_of_divided_gradients_are_those_of_whole_ones(tmp_path):
    settings = settings_of("translation", tmp_path, max_norm=0.5, log_every=1)
    tokens = torch.ones(2, 3, dtype=torch.int64)

    def figures(model: torch.nn.Module) -> dict[str, Any]:
        norm = model.output.weight.grad.norm()
        with torch.no_grad():
            model(tokens, tokens)  # this must not change what is clipped
        return {"norm_of_output": norm}

    alone = Run(train(settings, figures=figures))
    ours = divided(settings)
    together(lambda _: train(ours, figures=figures))
    for name in ("norm_of_output", "gradient_norm", "loss"):
        found, expected = (
            [entry[name] for entry in events(path, "train")] for path in (Path(ours.output), alone.path)
        )
        assert found == pytest.approx(expected, rel=1e-3), name


def test_a_stored_value_that_cannot_be_divided_is_refused(tmp_path):
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    row = torch.ones(2)
    assert part_of(row, parameter, tmp_path) is row
    parameter.full_tensor = None  # what tells a divided tensor from another
    assert part_of(torch.tensor(3.0), parameter, tmp_path) == 3
    with pytest.raises(CheckpointError, match=r"shape \(2,\) for a parameter of shape \(2, 3\)"):
        part_of(row, parameter, tmp_path)


def test_a_builder_that_reads_values_cannot_be_planned(tmp_path):
    def build(config: Any) -> torch.nn.Module:
        model = build_model(config)
        assert float(model.output.weight.sum()) > -math.inf
        return model

    with pytest.raises(ValueError, match="its builder reads them"):
        plan(divided(settings_of("translation", tmp_path)), build=build)
    assert own_numbers(torch.Size([]), 2) == 1
