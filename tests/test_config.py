"""The settings: the defaults are the paper's, and invalid values are rejected with a reason."""

import dataclasses
import re
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest

from transformer.config import (
    DataConfig,
    DecodingConfig,
    ModelConfig,
    Settings,
    TrainingConfig,
    setting_names,
)
from transformer.data.sentences import LABEL_FORMATS
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.data.tokenizers.training import TOKENIZERS
from transformer.model.layers import ACTIVATIONS, NORMS
from transformer.model.positions import POSITIONS
from transformer.tasks.registry import TASKS


def fields_of(settings, *names):
    return tuple(getattr(settings, name) for name in names)


def test_the_default_model_is_the_papers_base():
    model = ModelConfig()
    assert fields_of(model, "d_model", "num_heads", "d_ff", "num_layers") == (512, 8, 2048, 6)
    assert fields_of(model, "key_width", "value_width", "vocab_size") == (64, 64, 37_000)
    assert fields_of(model, "dropout", "attention_dropout", "activation_dropout") == (0.1, 0.0, 0.0)
    assert fields_of(model, "norm", "activation", "positions") == ("post", "relu", "sinusoidal")
    assert fields_of(model, "attention_bias", "output_bias", "tie_embeddings") == (False, False, True)
    assert fields_of(model, "pad_id", "bos_id", "eos_id", "unk_id") == (0, 1, 2, 3)
    assert fields_of(model, "kind", "max_positions") == ("encoder_decoder", 1024)


def test_the_default_training_is_the_papers():
    training = TrainingConfig()
    assert fields_of(training, "max_steps", "warmup_steps", "rate_scale") == (100_000, 4000, 1.0)
    assert fields_of(training, "adam_beta1", "adam_beta2", "adam_epsilon") == (0.9, 0.98, 1e-9)
    assert fields_of(training, "label_smoothing", "tokens_per_batch") == (0.1, 25_000)
    assert fields_of(training, "weight_decay", "max_norm", "cooldown") == (0.0, None, 0.0)


def test_the_default_search_is_the_papers():
    assert fields_of(DecodingConfig(), "beam_size", "alpha", "max_extra") == (4, 0.6, 50)


def test_head_widths_follow_the_model_unless_they_are_set():
    assert fields_of(ModelConfig(d_model=64, num_heads=4), "key_width", "value_width") == (16, 16)
    assert fields_of(ModelConfig(d_k=16), "key_width", "value_width") == (16, 64)
    assert fields_of(ModelConfig(d_v=32), "key_width", "value_width") == (64, 32)
    ModelConfig(num_heads=7, d_k=3, d_v=4)  # then num_heads need not divide d_model


REFUSED = [
    (ModelConfig, {"kind": "rnn"}, "model.kind is 'rnn'; choose one of encoder_decoder, decoder_only, encod"),
    (ModelConfig, {"norm": "rms"}, "model.norm is 'rms'; choose one of post, pre"),
    (ModelConfig, {"activation": "tanh"}, "model.activation is 'tanh'; choose one of relu, gelu, silu"),
    (
        ModelConfig,
        {"positions": "rotary"},
        "model.positions is 'rotary'; choose one of sinusoidal, tensor2tensor, learned",
    ),
    *(
        (ModelConfig, {name: 0}, f"model.{name} is 0; it must be greater than 0")
        for name in ("vocab_size", "d_model", "num_heads", "d_ff", "num_layers", "max_positions")
    ),
    (
        DataConfig,
        {"vocab_size": 10**12},
        "data.vocab_size is 1000000000000; it must be null or greater than 0 and less than 2",
    ),
    *(
        (ModelConfig, {name: 1.0}, f"model.{name} is 1.0; it must be at least 0 and less than 1")
        for name in ("dropout", "attention_dropout", "activation_dropout")
    ),
    (ModelConfig, {"dropout": -0.1}, "model.dropout is -0.1; it must be at least 0 and less than 1"),
    (ModelConfig, {"dropout": float("nan")}, "model.dropout is nan"),
    (ModelConfig, {"num_heads": 7}, "model.d_model 512 is not a multiple of model.num_heads 7"),
    (ModelConfig, {"num_heads": 7, "d_k": 3}, "model.d_model 512 is not a multiple of model.num_heads 7"),
    (ModelConfig, {"residual_gain": -1.0}, "model.residual_gain is -1.0; it must be 0 or more"),
    (ModelConfig, {"d_k": 0}, "model.d_k is 0; it must be null or greater than 0"),
    (ModelConfig, {"d_v": -1}, "model.d_v is -1; it must be null or greater than 0"),
    (
        ModelConfig,
        {"d_model": 511, "num_heads": 7},
        "model.d_model is 511; sinusoidal positions need an even",
    ),
    (ModelConfig, {"bos_id": 0}, r"pad_id, bos_id, eos_id, unk_id are \(0, 0, 2, 3\); they must differ"),
    (ModelConfig, {"vocab_size": 3}, r"lie in 0 … 2 \(model.vocab_size 3\)"),
    (ModelConfig, {"pad_id": -1}, r"are \(-1, 1, 2, 3\); they must differ and lie in 0"),
    (DataConfig, {"tokenizer": "words"}, "data.tokenizer is 'words'; choose one of sentencepiece"),
    (DataConfig, {"normalization": "nfd"}, "data.normalization is 'nfd'; choose one of nmt_nfkc"),
    (DataConfig, {"vocab_size": 0}, "data.vocab_size is 0; it must be null or greater than 0"),
    (DataConfig, {"max_tokens": 0}, "data.max_tokens is 0; it must be greater than 0"),
    (DataConfig, {"context": 0}, "data.context is 0; it must be greater than 0"),
    *(
        (TrainingConfig, {name: 0}, f"training.{name} is 0; it must be greater than 0")
        for name in (
            *("max_steps", "warmup_steps", "rate_scale", "tokens_per_batch", "accumulate", "adam_epsilon"),
            *("log_every", "valid_every", "save_every", "keep"),
        )
    ),
    *(
        (TrainingConfig, {name: 1}, f"training.{name} is 1; it must be at least 0 and less than 1")
        for name in ("label_smoothing", "adam_beta1", "adam_beta2")
    ),
    (TrainingConfig, {"cooldown": 1.5}, "training.cooldown is 1.5; it is a share between 0 and 1"),
    (TrainingConfig, {"weight_decay": -1}, "training.weight_decay is -1; it must be 0 or more"),
    (TrainingConfig, {"valid_sample": -1}, "training.valid_sample is -1; it must be 0 or more"),
    (TrainingConfig, {"max_norm": 0}, "training.max_norm is 0; it must be null or greater than 0"),
    *(
        (DecodingConfig, {name: 0}, f"decoding.{name} is 0; it must be greater than 0")
        for name in ("beam_size", "max_extra")
    ),
    (
        DecodingConfig,
        {"batch_tokens": 0},
        "decoding.batch_tokens is 0; it must be null or greater than 0",
    ),
    (DecodingConfig, {"alpha": -1}, "decoding.alpha is -1; it must be 0 or more"),
    (DecodingConfig, {"alpha": 300}, "decoding.alpha is 300; it must be at most 10"),
    (Settings, {"precision": "half"}, "precision is 'half'; choose one of auto, float32, bfloat16, float16"),
    (Settings, {"output": ""}, "output is empty; name the run's folder"),
    (Settings, {"seed": -1}, "seed is -1; it must be at least 0 and less than 2"),
    (Settings, {"device": "gpu"}, "device is 'gpu'; choose auto, cpu, cuda, cuda:N, mps, xpu or xpu:N"),
    (Settings, {"device": "cuda:"}, "device is 'cuda:'; choose auto"),
    (Settings, {"device": "0"}, "device is '0'; choose auto"),
    (
        Settings,
        {"model": ModelConfig(max_positions=100)},
        "data.max_tokens 256 is more than model.max_positions 100; lower the first or raise the second",
    ),
]


def test_what_cannot_be_is_refused_with_its_reason():
    wrong = []
    for section, values, reason in REFUSED:
        try:
            section(**values)
        except ValueError as error:
            if re.search(reason, str(error)):
                continue
            wrong.append(f"{section.__name__}({values}) is refused with {error}\n  instead of {reason}")
        else:
            wrong.append(f"{section.__name__}({values}) is accepted; expected {reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps", "xpu", "xpu:1"])
def test_devices_are_named_as_in_torch(device):
    assert Settings(device=device).device == device


def test_a_replaced_value_is_checked_too():
    with pytest.raises(ValueError, match=r"model.num_layers is -1"):
        dataclasses.replace(ModelConfig(), num_layers=-1)


def test_settings_cannot_change_under_a_run():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 3  # type: ignore[misc]


def test_setting_names_are_the_leaves_of_the_tree():
    expected = []
    for field in dataclasses.fields(Settings):
        section = field.default_factory
        if section is dataclasses.MISSING:
            expected.append(field.name)
        else:
            expected += [f"{field.name}.{inner.name}" for inner in dataclasses.fields(section)]
    assert list(setting_names()) == expected
    assert {"seed", "model.d_model", "training.max_steps", "decoding.beam_size"} <= set(expected)


def words_of(kind):
    """The choices listed by the `Literal` in an annotation, if there is one."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [word for option in options if get_origin(option) is Literal for word in get_args(option)]


@pytest.mark.parametrize(
    ("section", "prefix"), [(ModelConfig, "model"), (DataConfig, "data"), (TrainingConfig, "training")]
)
def test_a_literal_is_the_one_list_of_the_words_of_a_setting(section, prefix):
    """Validation and its error message take the choices from the `Literal`, so a new one is valid at once."""
    kinds = {name: kind for name, kind in get_type_hints(section).items() if str not in get_args(kind)}
    choices = {name: words for name, kind in kinds.items() if (words := words_of(kind))}
    assert choices
    for name, words in choices.items():
        with pytest.raises(ValueError, match=rf"^{prefix}\.{name} is 'no such'; choose one of ") as refused:
            section(**{name: "no such"})
        assert str(refused.value).partition("choose one of ")[2].removesuffix(", null") == ", ".join(words)


@pytest.mark.parametrize(
    ("section", "name", "table"),
    [
        (ModelConfig, "activation", ACTIVATIONS),
        (ModelConfig, "norm", NORMS),
        (ModelConfig, "positions", POSITIONS),
        (DataConfig, "tokenizer", TOKENIZERS),
        (DataConfig, "label_format", LABEL_FORMATS),
        (Settings, "task", TASKS),
    ],
)
def test_every_word_of_a_choice_has_its_part(section, name, table):
    """Adding a part takes a word in the `Literal` and a line in the table next to its class."""
    assert list(table) == words_of(get_type_hints(section)[name])


@pytest.mark.parametrize("rule", words_of(get_type_hints(DataConfig)["normalization"]))
def test_every_normalisation_is_one_of_sentence_piece(rule):
    """Otherwise SentencePiece would reject an unknown name only after reading the whole text."""
    tokenizer = train_tokenizer(["Straße Ａ x"], vocab_size=273, normalization=rule)
    assert rule.encode() in tokenizer.processor.serialized_model_proto()
