"""The precision chosen for each device, float16 with its loss scale, and devices that are untested so far."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import get_args

import pytest
import torch
from fixtures_run import events, tiny_settings
from test_resilience import assert_equal_end, at_update, breaking
from torch.amp import GradScaler

from transformer import hardware
from transformer.checkpoint.reading import read_state
from transformer.checkpoint.run import Run
from transformer.config import Precision
from transformer.decoding.inference import freeze
from transformer.recipe import dry_run, train
from transformer.training.finite import DivergedError
from transformer.training.loop import HALVINGS
from transformer.training.state import is_scaler


def test_every_precision_has_its_dtype():
    assert {"auto", *hardware.DTYPES} == set(get_args(Precision))


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), "float32"),
        ((7, 0), "float16"),
        ((7, 5), "float16"),
        ((8, 0), "bfloat16"),
        ((9, 0), "bfloat16"),
    ],
)
def test_auto_is_what_a_gpu_is_fast_at(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert hardware.choose_precision("auto", torch.device("cuda")) == expected
    assert hardware.choose_precision("float32", torch.device("cuda")) == "float32"


def test_auto_asks_the_device_that_computes(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: True)
    assert hardware.choose_precision("auto", torch.device("cpu")) == "bfloat16"
    assert hardware.choose_precision("auto", torch.device("mps")) == "float32"
    for has_it in (True, False):
        monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda has_it=has_it, **_: has_it)
        assert (hardware.choose_precision("auto", torch.device("xpu")) == "bfloat16") == has_it


def test_tf32_is_allowed_inside_only():
    assert torch.get_float32_matmul_precision() == "highest"
    with hardware.tf32_products(True):
        assert torch.get_float32_matmul_precision() == "high"
    with hardware.tf32_products(False):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("name", ["mps", "xpu", "xpu:1"])
def test_a_device_that_is_not_there_is_an_error_of_one_line(name):
    with pytest.raises(
        ValueError, match=f"device is '{name}', but torch sees 0 {name[:3].upper()} GPUs here"
    ):
        hardware.choose_device(name)


def test_several_processes_need_a_device_on_which_they_can_work_together(monkeypatch):
    monkeypatch.setattr(torch.mps, "device_count", lambda: 1)
    assert hardware.choose_device("mps") == torch.device("mps")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="device is 'mps', but several processes can use only cpu or cuda"):
        hardware.choose_device("mps")


# float16


@pytest.fixture
def settings(tmp_path):
    """Twelve updates in float16."""
    return replace(
        tiny_settings(tmp_path / "run", max_steps=12, save_every=1, keep=12, valid_every=100),
        precision="float16",
    )


def scales(run: Run) -> list[float]:
    return [read_state(run.checkpoint(step))["scaler"]["scale"] for step in run.steps()]


def test_float16_learns_as_float32_does(settings, tmp_path):
    ours = Run(train(settings))
    theirs = Run(train(replace(settings, precision="float32", output=str(tmp_path / "float32"))))
    losses = [[entry["loss"] for entry in events(run.path, "train")] for run in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert scales(ours) == [2.0**HALVINGS] * 12
    assert dry_run(settings).tokens_per_second > 0


def test_an_overflow_is_skipped_and_halves_the_scale_and_a_resumed_run_has_it_too(
    settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(hardware, "GradScaler", partial(GradScaler, init_scale=2.0**20, growth_interval=3))
    straight = Run(train(settings))
    skipped = [entry["step"] for entry in events(straight.path, "skip")]
    assert 0 < len(skipped) < 12
    assert "was skipped" not in capsys.readouterr().err
    found = [2.0**20, *scales(straight)]
    for step, (before, after) in enumerate(pairwise(found), start=1):
        assert after == before / 2 if step in skipped else after in (before, 2 * before)
    assert any(after > before for before, after in pairwise(found))
    ours = replace(settings, output=str(tmp_path / "ours"))
    with monkeypatch.context() as patch:
        at_update(10, lambda: (_ for _ in ()).throw(OSError("power")), patch)
        with pytest.raises(OSError, match="power"):
            train(ours)
    train(ours, resume=True)
    assert_equal_end(Run(tmp_path / "ours"), straight)


def test_parameters_without_an_optimizer_do_not_count_in_the_norm(settings, tmp_path):
    def norms(output: str, precision: str) -> list[float]:
        run = train(
            replace(settings, precision=precision, output=str(tmp_path / output)),
            optimizer=lambda named: torch.optim.Adam([p for name, p in named if "blocks" in name]),
            figures=lambda model: {
                "trained": torch.nn.utils.get_total_norm(
                    [p.grad for name, p in model.named_parameters() if "blocks" in name]
                )
            },
        )
        logged = events(run, "train")
        assert [e["gradient_norm"] for e in logged] == pytest.approx([e["trained"] for e in logged])
        return [entry["gradient_norm"] for entry in logged]

    assert norms("float16", "float16") == pytest.approx(norms("float32", "float32"), rel=0.1)


def test_overflows_that_no_scale_helps_against_stop_the_training(settings, monkeypatch):
    longer = replace(settings.training, max_steps=99, max_skipped=2, save_every=100)
    breaking(monkeypatch, set(range(1, 100)))
    with pytest.raises(DivergedError, match=f"update {2 + HALVINGS + 1}: loss or gradient is not finite"):
        train(replace(settings, training=longer))


@pytest.mark.parametrize(
    "state", [{"scale": 1.0}, {**GradScaler("cpu").state_dict(), "scale": "2"}, [1], {"other": 1}]
)
def test_a_scale_that_no_training_wrote_is_refused(state):
    assert is_scaler({})
    assert is_scaler(GradScaler("cpu").state_dict())
    assert not is_scaler(state)


def test_a_cpu_does_not_decode_in_float16():
    with pytest.raises(
        ValueError, match="precision is 'float16', which is for GPUs; on a CPU choose float32"
    ):
        freeze(torch.nn.Linear(2, 2), "float16")
