"""benchmarks/silence_variants.py: each variant changes what it says, and nothing else."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BOS, EOS, PAD, assert_close, random_rows, right_padded, tiny_config
from test_objectives import make_batch

import transformer
from transformer.config import Settings, setting_names
from transformer.config.settings import differing
from transformer.model.layers import FeedForward, PreNorm
from transformer.tasks.translation import TranslationLoss
from transformer.training.loop import accumulate_gradients
from transformer.training.schedule import learning_rate

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def variants():
    return import_module("silence_variants").VARIANTS


@pytest.fixture
def build(variants):
    """A function that builds the model of a variant, with the same random numbers each time."""

    def make(name: str) -> torch.nn.Module:
        torch.manual_seed(3)
        variant = variants[name]
        return variant.build(replace(tiny_config(), **variant.model)).eval()

    return make


@pytest.fixture
def batch():
    sources = [[*row, EOS] for row in random_rows(3, 7, 4, 1)]
    targets = [[*row, EOS] for row in random_rows(4, 8, 2, 5, first=BOS)]
    return make_batch(list(zip(sources, targets, strict=True)))


def settings_of(variants, name: str) -> Settings:
    silences = import_module("silences")
    folders = silences.Folders(Path("runs"), Path("figures"), Path("data"))
    short = silences.shortened(transformer.load_settings(silences.RECIPE), 2000, 2048)
    return silences.settings_of(variants[name], 1, short, folders)


def test_a_variant_changes_the_settings_that_it_names_and_no_others(variants):
    default = settings_of(variants, "default")
    for name, variant in variants.items():
        changed = {
            key: new for key, _, new in differing(default, settings_of(variants, name), setting_names())
        }
        named = {f"model.{key}": value for key, value in variant.model.items()}
        named |= {f"training.{key}": value for key, value in variant.training.items()}
        assert changed == named | ({} if name == "default" else {"output": f"runs/{name}_1"})


def test_every_variant_but_the_default_differs_from_it_in_some_part(variants):
    default = variants["default"]
    for name, variant in variants.items():
        parts = [
            getattr(variant, part) != getattr(default, part)
            for part in ("model", "training", "build", "task", "schedule")
        ]
        assert any(parts) == (name != "default")


@pytest.mark.parametrize(
    ("name", "factor", "parts"),
    [
        ("glorot_separate", 2**0.5, ("w_q.weight", "w_k.weight", "w_v.weight")),
        ("unit_embeddings", 4.0, ("embedding.weight",)),  # √16
    ],
)
def test_another_initialisation_multiplies_the_matrices_that_it_names(build, name, factor, parts):
    default, changed = build("default").state_dict(), build(name).state_dict()
    assert default.keys() == changed.keys()
    for key, value in default.items():
        is_named = key.endswith(parts) or (name == "unit_embeddings" and key == "output.weight")  # tied
        assert_close(changed[key], value * (factor if is_named else 1.0), rtol=1e-6, atol=0)


def test_the_matrices_of_torchs_embedding_have_unit_variance(variants):
    config = tiny_config(vocab_size=4000)
    torch.manual_seed(3)
    assert float(variants["unit_embeddings"].build(config).output.weight.detach().std()) == pytest.approx(
        1, rel=0.02
    )


def test_attention_biases_are_added_and_start_at_zero(build):
    default, changed = build("default").state_dict(), build("attention_bias").state_dict()
    added = changed.keys() - default.keys()
    assert added == {
        key.replace("weight", "bias") for key in default if key.endswith(("q.weight", "k.weight", "v.weight"))
    } | {key.replace("weight", "bias") for key in default if key.endswith("w_o.weight")}
    assert not any(changed[key].any() for key in added)


def test_unscaled_embeddings_are_the_default_without_the_factor(build):
    default, changed = build("default"), build("unscaled_embeddings")
    tokens = right_padded(random_rows(5, 5))
    places = torch.arange(5)[None]
    for stack in ("encoder", "decoder"):
        before, after = getattr(default, stack).embedding, getattr(changed, stack).embedding
        waves = before.positions(places)
        assert_close(after(tokens, places) - waves, (before(tokens, places) - waves) / 4)
        assert_close(after(tokens, places) - waves, after.embedding(tokens))


def test_the_zero_vector_is_the_first_input_of_the_decoder_and_only_that(build):
    default, changed = build("default"), build("zero_start")
    tokens, places = right_padded(random_rows(5, 5, first=BOS)), torch.arange(5)[None]
    expected = default.decoder.embedding(tokens, places)
    found = changed.decoder.embedding(tokens, places)
    assert torch.equal(found[:, 0], changed.decoder.embedding.positions(places)[:, 0].expand(2, -1))
    assert torch.equal(found[:, 1:], expected[:, 1:])
    assert torch.equal(changed.encoder.embedding(tokens, places), default.encoder.embedding(tokens, places))
    # the search reads the same zero vector
    logits, _ = changed.prefill(tokens, max_length=4)
    assert_close(logits, changed(tokens, tokens[:, :1])[:, 0])
    assert not torch.allclose(logits, default.prefill(tokens, max_length=4)[0], atol=1e-3)


def test_a_source_without_its_eos_gives_the_memory_of_the_words_alone(build, batch):
    default, changed = build("default"), build("no_source_eos")
    memory, mask = changed.encode(batch.src_tokens)
    for row, tokens in enumerate(batch.src_tokens):
        words = tokens[(tokens != PAD) & (tokens != EOS)][None]
        expected, _ = default.encode(words)
        assert mask[row, 0, 0].sum() == words.shape[1]
        assert_close(memory[row, : words.shape[1]], expected[0])


def test_an_empty_source_keeps_its_eos(build):
    default, changed = build("default"), build("no_source_eos")
    assert_close(changed.encode(torch.tensor([[EOS]])), default.encode(torch.tensor([[EOS]])))


def test_smoothing_off_the_gold_class_is_its_formula(variants, build, batch):
    training = replace(Settings().training, label_smoothing=0.5)
    settings = replace(Settings(), model=tiny_config(), training=training)
    objective = variants["smoothing_off_gold"].task.objective(settings)
    model = build("default")
    log_probs = model(batch.src_tokens, batch.tgt_tokens[:, :-1]).log_softmax(-1).detach().double()
    labels, size = batch.tgt_tokens[:, 1:], log_probs.shape[-1]
    expected = 0.0
    for row, place in (labels != PAD).nonzero().tolist():
        target = torch.full((size,), 0.5 / (size - 1), dtype=torch.float64)
        target[labels[row, place]] = 0.5
        expected -= float(target @ log_probs[row, place])
    assert float(objective(model, batch).total.detach()) == pytest.approx(expected, rel=1e-5)
    default = variants["default"].task.objective(settings)
    assert float(default(model, batch).total.detach()) != pytest.approx(expected, rel=1e-4)


def test_the_loss_by_sentence_is_the_mean_of_the_sentences_means(variants, build, batch):
    settings = replace(Settings(), model=tiny_config())
    objective = variants["loss_by_sentence"].task.objective(settings)
    by_token = variants["default"].task.objective(settings)
    model = build("default")
    means = []
    for source, target in zip(batch.src_tokens, batch.tgt_tokens, strict=True):
        alone = make_batch([(source[source != PAD].tolist(), target[target != PAD].tolist())])
        total, tokens = by_token(model, alone)
        means.append(total / tokens)
    expected = torch.stack(means).mean()
    total, tokens = objective(model, batch)
    assert tokens == batch.target_tokens
    assert_close(total / tokens, expected)
    whole, count = by_token(model, batch)
    assert abs((whole / count - expected).item()) > 1e-4

    # the loop's gradient is that of the mean of means
    accumulate_gradients(objective, model, [batch])
    found = model.output.weight.grad
    model.output.weight.grad = None
    expected.backward()
    assert_close(found, model.output.weight.grad)


def test_sentences_of_one_target_token_have_the_same_loss_by_sentence_and_by_token(variants, build):
    """With EOS as the only target token, the mean of a sentence is the loss of its one token."""
    settings = replace(Settings(), model=tiny_config())
    batch = make_batch([([5, 6, EOS], [BOS, EOS]), ([7, EOS], [BOS, EOS])])
    one, other = (
        variants[name].task.objective(settings)(build("default"), batch).total
        for name in ("loss_by_sentence", "default")
    )
    assert_close(one, other)


def test_the_other_variants_are_in_the_modules(build):
    def modules(name: str, kind: type) -> list:
        return [module for module in build(name).modules() if isinstance(module, kind)]

    assert {norm.eps for norm in modules("norm_epsilon", torch.nn.LayerNorm)} == {1e-5}
    assert {norm.eps for norm in modules("default", torch.nn.LayerNorm)} == {1e-6}
    attention = transformer.MultiHeadAttention
    assert {each.attention_dropout for each in modules("dropout_attention", attention)} == {0.3}
    assert {each.dropout.p for each in modules("dropout_attention", FeedForward)} == {0.0}
    assert {each.attention_dropout for each in modules("dropout_feed_forward", attention)} == {0.0}
    assert {each.dropout.p for each in modules("dropout_feed_forward", FeedForward)} == {0.3}
    assert modules("pre_norm", PreNorm)
    assert isinstance(build("pre_norm").decoder.final_norm, torch.nn.LayerNorm)
    assert not modules("default", PreNorm)
    untied = build("untied")
    matrices = untied.encoder.embedding.embedding, untied.decoder.embedding.embedding, untied.output
    assert len({id(each.weight) for each in matrices}) == len(matrices)


def test_the_slowest_wave_is_ten_thousand_in_the_layout_of_tensor2tensor(build):
    places = torch.tensor([[0, 5]])
    waves = build("positions").encoder.embedding.positions(places)[0, 1]
    assert float(waves[-2]) == pytest.approx(np.sin(5 / 10_000), rel=1e-5)
    assert float(build("default").encoder.embedding.positions(places)[0, 1, -2]) > 2 * float(waves[-2])


def test_without_warm_up_the_rate_begins_at_its_peak_and_then_agrees(variants):
    settings = settings_of(variants, "default")
    warmup = settings.training.warmup_steps
    default = [learning_rate(step, 128, settings.training) for step in range(1, 2001)]
    rates = list(map(variants["no_warmup"].schedule(settings), range(1, 2001)))
    assert rates[:warmup] == [max(default)] * warmup
    assert rates[warmup:] == default[warmup:]


def test_the_short_recipe_has_the_rates_of_the_long_one_at_the_same_share(variants):
    long = transformer.load_settings(ROOT / "configs/multi30k_en_de.yaml").training
    short = settings_of(variants, "default").training
    for share in (0.05, 0.2, 0.5, 1.0):
        ours = learning_rate(round(share * short.max_steps), 128, short)
        assert ours == pytest.approx(learning_rate(round(share * long.max_steps), 128, long), rel=1e-9)
    assert short.keep * short.save_every / short.max_steps == long.keep * long.save_every / long.max_steps


@pytest.mark.parametrize(
    "name",
    [
        *("loss_by_sentence", "smoothing_off_gold", "no_warmup", "clipping", "weight_decay"),
        *("dropout_attention", "dropout_feed_forward"),
    ],
)
def test_what_changes_only_the_training_leaves_the_first_validation_alone(build, batch, name):
    validation = TranslationLoss(0.0)
    assert torch.equal(validation(build(name), batch).total, validation(build("default"), batch).total)
