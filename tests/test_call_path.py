"""The call path from `forward` to equation 1 is short, and docs/paper_to_code.md lists all of its frames."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import random_rows, right_padded, tiny_model

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "transformer"
LONGEST = 8


@pytest.fixture
def paths(monkeypatch) -> set[tuple[tuple[str, str], ...]]:
    """For each softmax in attention, the package's stack frames, outermost first, as (file, function)."""
    found = set()

    def watch(function):
        def watched(*arguments, **keywords):
            frame, path = sys._getframe(1), []
            while frame is not None:
                file = Path(frame.f_code.co_filename)
                if file.is_relative_to(PACKAGE):
                    path.append((file.relative_to(ROOT).as_posix(), frame.f_code.co_qualname))
                frame = frame.f_back
            found.add(tuple(reversed(path)))
            return function(*arguments, **keywords)

        return watched

    monkeypatch.setattr(torch.Tensor, "softmax", watch(torch.Tensor.softmax))
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch(F.scaled_dot_product_attention))
    return found


def documented_path() -> tuple[tuple[str, str], ...]:
    text = (ROOT / "docs/paper_to_code.md").read_text(encoding="utf-8")
    section = text.partition("## From `forward` to the softmax")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| figure [12]\b.* \| `([\w/.]+)` \|$", section, flags=re.MULTILINE)
    return tuple((file, name) for name, file in rows)


@pytest.mark.parametrize("needs_gradients", [True, False])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_path_to_the_softmax_is_short(paths, norm, needs_gradients):
    """For both kernels, and for attention in the encoder, in the decoder and between the two."""
    model = tiny_model(norm=norm).train(needs_gradients)
    with torch.set_grad_enabled(needs_gradients):
        model(right_padded(random_rows(5, 3)), right_padded(random_rows(4, 4)))
    assert len(paths) == 3
    assert {path[0][1] for path in paths} == {"EncoderDecoder.forward"}
    assert max(map(len, paths)) <= LONGEST, max(paths, key=len)


@pytest.mark.parametrize("needs_gradients", [True, False])
def test_the_documented_path_is_the_one_taken(paths, needs_gradients):
    with torch.set_grad_enabled(needs_gradients):
        tiny_model()(right_padded(random_rows(5)), right_padded(random_rows(4)))
    assert len(documented_path()) == LONGEST
    assert documented_path() in paths


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_only"])
def test_one_stack_alone_is_shorter(paths, kind):
    tiny_model(kind=kind)(right_padded(random_rows(5, 3)))
    assert len(paths) == 1
    assert max(map(len, paths)) < LONGEST


def test_a_step_of_a_decode_takes_no_detour(paths):
    model = tiny_model()
    with torch.no_grad():
        _, state = model.prefill(right_padded(random_rows(5)), max_length=3)
        paths.clear()
        model.step(torch.tensor([5]), state)
    assert {path[0][1] for path in paths} == {"EncoderDecoder.step"}
    assert max(map(len, paths)) < LONGEST
