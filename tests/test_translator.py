"""Text in, text out: one line for each line, whatever it contains, independent of the other lines."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_run import TINY_MODEL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.checkpoint.format import CheckpointError
from transformer.checkpoint.run import Run
from transformer.config import DecodingConfig
from transformer.config.files import load_settings, save_settings
from transformer.decoding.alignment import alignment_error_rate
from transformer.decoding.translation import MISSING, Translation, distinct_texts
from transformer.decoding.translator import Translator
from transformer.model.build import build_model

LINES = [
    "the clock strikes seven .",
    "",
    "Is the house old?",
    "   ",
    "Today the boy sells the red book.",
    "x",
    "\u3000\t",
    "the dog sleeps",
]
ANY_LINE = (
    st.text(max_size=30)
    | st.sampled_from(
        ["", " ", "\t", "\r", "a\rb", "a\nb", "a\u2028b", "\x85", "\x00", "\x1b[31m", "▁", "<s>"]
    )
    | st.integers(30, 200).map(lambda length: "long " * length)
)


@pytest.fixture(scope="module")
def translator(tiny_run) -> Translator:
    translator = Translator.from_pretrained(tiny_run, device="cpu")
    translator.warn = lambda _: None
    return translator


@given(lines=st.lists(ANY_LINE, max_size=5))
@settings(max_examples=20)
def test_any_lines_give_as_many_lines(lines, translator):
    outputs = translator.translate(lines, beam_size=1)
    assert len(outputs) == len(lines)
    for line, output in zip(lines, outputs, strict=True):
        assert not {"\n", "\r"} & set(output)
        output.encode()
        if not line.strip():
            assert output == ""


def test_one_text_in_place_of_lines_is_refused(translator):
    outputs = [Translation("", 0.0, [])]
    for call in (
        lambda: translator.translate("the clock"),
        lambda: translator.translate_n_best("the clock", n_best=1),
        lambda: translator.translate_n_best(["x"], n_best=1, prefixes="x"),
        lambda: translator.score("x", ["y"]),
        lambda: translator.score(["x"], "y"),
        lambda: translator.align("x", outputs),
    ):
        with pytest.raises(TypeError, match=r"^expected a list of strings .*; write \[text\]$"):
            call()


def test_half_of_a_surrogate_pair_is_refused_with_its_line(translator):
    lines = ["a", "b\ud83d"]
    for name, call in (
        ("line 2", lambda: translator.translate(lines)),
        ("line 8", lambda: translator.translate_n_best(lines, n_best=1, first_line=7)),
        ("prefix 8", lambda: translator.translate_n_best(["a", "b"], n_best=1, first_line=7, prefixes=lines)),
        ("line 2", lambda: translator.score(lines, ["a", "b"])),
        ("target 2", lambda: translator.score(["a", "b"], lines)),
        ("line 2", lambda: translator.align(lines, [Translation("", 0.0, [])] * 2)),
    ):
        with pytest.raises(ValueError, match=rf"^{name} holds U\+D83D, half of a surrogate pair"):
            call()


def test_each_line_to_score_needs_a_target(translator):
    with pytest.raises(ValueError, match=r"^there are 1 targets for 2 lines; give one for each$"):
        translator.score(["a", "b"], ["c"])


def test_a_line_break_that_the_model_says_becomes_a_space(translator, monkeypatch):
    monkeypatch.setattr(translator.tokenizer, "decode", lambda rows: ["a\nb\r\nc" for _ in rows])
    assert translator.translate(["the clock"]) == ["a b  c"]


@pytest.mark.parametrize("batch_tokens", [1, 17, 60, 133, 400, 10**6])
def test_a_translation_does_not_depend_on_its_company(translator, batch_tokens):
    alone = [translator.translate_n_best([line], n_best=2)[0] for line in LINES]
    changed = Translator(
        translator.model,
        translator.tokenizer,
        model_config=translator.config,
        decoding=replace(translator.decoding, batch_tokens=batch_tokens),
    )
    for order in (range(len(LINES)), reversed(range(len(LINES)))):
        rows = list(order)
        together = changed.translate_n_best([LINES[row] for row in rows], n_best=2)
        for row, found in zip(rows, together, strict=True):
            assert [output.tokens for output in found] == [output.tokens for output in alone[row]]
            expected = [output.score for output in alone[row]]
            assert [output.score for output in found] == pytest.approx(expected, rel=1e-4)


def test_batches_keep_to_their_budget_and_hold_every_line_once(translator):
    sources = [[5] * length for length in (3, 0, 9, 1, 4, 4, 30, 0, 2)]
    translator = Translator(
        translator.model,
        translator.tokenizer,
        model_config=translator.config,
        decoding=DecodingConfig(batch_tokens=24),
    )
    batches = list(translator.batches(sources, beam_size=2))
    assert sorted(row for rows in batches for row in rows) == [0, 2, 3, 4, 5, 6, 8]
    assert batches[0] == [6]  # longer than the budget, so in a batch by itself
    for rows in batches[1:]:
        assert 2 * len(rows) * max(len(sources[row]) for row in rows) <= 24


def test_a_gpu_gets_larger_batches_unless_the_run_says_otherwise(translator, monkeypatch):
    sources = [[5] * 27 + [2]] * 256
    ours = Translator(translator.model, translator.tokenizer, model_config=translator.config)
    assert len(list(ours.batches(sources, 4))) > 1
    monkeypatch.setattr(Translator, "device_type", "cuda")
    assert list(ours.batches(sources, 4)) == [list(range(256))]
    ours.decoding = DecodingConfig(batch_tokens=4 * 28)
    assert len(list(ours.batches(sources, 4))) == 256


def test_a_line_that_is_too_long_is_cut_and_its_number_told(translator):
    warnings: list[str] = []
    told = Translator(translator.model, translator.tokenizer, model_config=TINY_MODEL, warn=warnings.append)
    long = "the clock " * 100
    found = told.translate_n_best(["a", "", long, "b"], n_best=1, beam_size=1, first_line=40)
    assert len(found) == 4
    (warning,) = warnings
    length = len(told.tokenizer.encode([long])[0]) + 1
    assert warning == f"line 42 has {length} tokens; only its first 64 are translated"


def test_translations_end_at_the_papers_limit(translator):
    for line, output in zip(LINES, translator.translate_n_best(LINES, n_best=1), strict=True):
        source = translator.tokenizer.encode([line])[0] + [2]
        assert len(output[0].tokens) <= len(source) + translator.decoding.max_extra


def test_n_best_are_different_and_best_first_and_the_first_is_the_translation(translator):
    found = translator.translate_n_best(LINES, n_best=3, beam_size=4)
    best = translator.translate(LINES, beam_size=4)
    for line, outputs, first in zip(LINES, found, best, strict=True):
        assert len(outputs) == 3
        assert outputs[0].text == first
        scores = [output.score for output in outputs]
        assert scores == sorted(scores, reverse=True)
        if line.strip():
            assert len({tuple(output.tokens) for output in outputs}) == 3
            assert all(score < 0 for score in scores)
        else:
            assert outputs == [Translation("", 0.0, [])] * 3


def test_no_text_comes_twice_in_a_list(translator, monkeypatch):
    """If many outputs have the same text, only the best of each is kept, in order."""
    lines = ["the clock strikes seven .", "Is the house old?", "the dog sleeps", "x"]
    decode, prefixes = translator.tokenizer.decode, ["", "Der", "", "Das"]
    whole = [
        translator.translate_n_best([line], n_best=4, beam_size=4, prefixes=[prefix])[0]
        for line, prefix in zip(lines, prefixes, strict=True)
    ]

    def text_of(text):
        return f"text {sum(map(ord, text)) % 6}"

    monkeypatch.setattr(translator.tokenizer, "decode", lambda rows: list(map(text_of, decode(rows))))
    found = translator.translate_n_best(lines, n_best=2, beam_size=4, prefixes=prefixes)
    repeated = 0
    for outputs, first in zip(found, whole, strict=True):
        assert len({output.text for output in outputs}) == len(outputs) == 2
        assert all(math.isfinite(output.score) for output in outputs)
        assert [output.score for output in outputs] == sorted((o.score for o in outputs), reverse=True)
        by_text: dict[str, float] = {}
        for output in first:
            by_text.setdefault(text_of(output.text), output.score)
        repeated += len(by_text) < len(first)
        kept = {output.text: output.score for output in outputs}
        for text, score in list(by_text.items())[:2]:
            assert kept[text] == pytest.approx(score, abs=1e-4)
    assert repeated


def test_the_better_one_of_two_equal_texts_stays_and_none_scores_above_the_one_before():
    first = [Translation("a", -1.0, [5]), Translation("a", -2.0, [6]), Translation("b", -3.0, [7])]
    longer = [*first, Translation("c", -4.0, [8]), MISSING]
    wider = [Translation("d", -0.5, [9]), Translation("e", -3.5, [5, 5]), Translation("c", -4.0, [8])]
    for lists, expected in [
        ([first], "ab"),
        ([first, longer], "abc"),
        ([first, wider], "abec"),
        ([[MISSING] * 2], ""),
    ]:
        found = distinct_texts([output for outputs in lists for output in outputs], 4)
        assert "".join(output.text for output in found) == expected
    assert distinct_texts(longer, 2) == [first[0], first[2]]


def test_a_list_that_cannot_be_filled_ends_in_missing_outputs(translator, monkeypatch):
    monkeypatch.setattr(translator.tokenizer, "decode", lambda rows: ["same" for _ in rows])
    [outputs] = translator.translate_n_best(["the dog sleeps"], n_best=3, beam_size=3)
    assert [output.text for output in outputs] == ["same", "", ""]
    assert [output.score for output in outputs[1:]] == [-math.inf] * 2


def test_no_lines_give_no_lines(translator):
    assert translator.translate([]) == []
    assert translator.translate(iter(["x"])) == translator.translate(["x"])


def test_the_runs_own_search_is_the_default(translator):
    own = translator.decoding
    assert translator.translate(LINES) == translator.translate(
        LINES, beam_size=own.beam_size, alpha=own.alpha
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, r"decoding\.beam_size is 0; it must be greater than 0"),
        ({"alpha": -0.5}, r"decoding\.alpha is -0\.5; it must be 0 or more"),
        ({"alpha": float("nan")}, r"decoding\.alpha is nan"),
        ({"n_best": 3}, r"n_best is 3; it must be between 1 and beam_size, 2"),
        ({"n_best": 0}, r"n_best is 0; it must be between 1 and beam_size, 2"),
    ],
)
def test_a_search_that_cannot_be_is_refused(translator, options, message):
    with pytest.raises(ValueError, match=message):
        translator.translate_n_best([""], **{"n_best": 1, **options})


def test_a_model_in_bfloat16_aligns(tiny_run):
    """On a GPU the whole model is in bfloat16; most alignment links must equal those of float32."""
    translator = Translator.from_pretrained(tiny_run, device="cpu")
    found = [row[0] for row in translator.translate_n_best(LINES, n_best=1)]
    with pytest.raises(ValueError, match=rf"there are {len(LINES) - 1} translations for {len(LINES)} lines"):
        translator.align(LINES, found[1:])
    expected = translator.align(LINES, found)
    translator.model.to(torch.bfloat16)
    assert alignment_error_rate(translator.align(LINES, found), expected) < 0.3


# From a run's folder


def test_one_checkpoint_of_a_run_can_be_chosen(tiny_run):
    first, last = (Translator.from_pretrained(Run(tiny_run).checkpoint(step)) for step in (2, 6))
    weights = [next(model.parameters()) for model in (first.model, last.model)]
    assert not weights[0].equal(weights[1])
    assert not first.model.training


def test_another_tokenizer_is_refused(tiny_run, tmp_path):
    from transformer.data.tokenizers.sentence_piece import train_tokenizer

    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    lines = ["other words than these", "give another vocabulary"] * 3
    train_tokenizer(lines, vocab_size=290, normalization="identity").save(folder / "tokenizer.model")
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.model: not the tokenizer that .* was trained with"
    ):
        Translator.from_pretrained(folder)


def test_another_kind_of_model_is_refused(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    config = load_settings(folder / "config.yaml")
    save_settings(replace(config, model=replace(config.model, kind="decoder_only")), folder / "config.yaml")
    with pytest.raises(CheckpointError, match="needed here"):
        Translator.from_pretrained(folder)


def test_a_researchers_model_needs_its_own_build(tiny_run):
    def build(config):
        model = build_model(config)
        model.extra = nn.Linear(1, 1)
        return model

    with pytest.raises(
        CheckpointError, match=r"lacks extra\.bias \(2 such\); the model was built differently"
    ):
        Translator.from_pretrained(tiny_run, build=build)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "0", "cuda:300"])
def test_a_device_that_does_not_exist_is_refused(tiny_run, device):
    with pytest.raises(
        ValueError, match=f"device is '{device}'; choose auto, cpu, cuda, cuda:N, mps, xpu or"
    ):
        Translator.from_pretrained(tiny_run, device=device)


def test_the_state_of_a_checkpoint_is_plain_json(tiny_run):
    state = json.loads((Run(tiny_run).checkpoint(6) / "state.json").read_text())
    assert state["step"] == 6
