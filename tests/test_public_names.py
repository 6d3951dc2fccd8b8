"""`import transformer` provides the public names, each with its documented signature."""

import ast
import inspect
from operator import attrgetter
from pathlib import Path

import pytest

import transformer

SOURCE = Path(transformer.__file__).read_text(encoding="utf-8")


def imports_for_type_checkers() -> dict[str, str]:
    (block,) = (node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    names = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # which tells type checkers that the name is public
            names[alias.name] = str(node.module).removeprefix("transformer.")
    return names


def test_the_two_tables_agree():
    assert imports_for_type_checkers() == transformer.MODULE_OF
    assert transformer.__all__ == sorted(transformer.MODULE_OF)
    assert len(transformer.MODULE_OF) == sum(map(len, transformer.PUBLIC_NAMES.values()))


def test_every_name_loads_from_where_it_is_defined():
    for name in transformer.__all__:
        value = getattr(transformer, name)
        assert f"{value.__module__}.".startswith(f"transformer.{transformer.MODULE_OF[name]}."), name
        assert value.__name__ == name
    assert set(transformer.__all__) <= set(dir(transformer))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'transformer' has no attribute 'Transfromer'"):
        _ = transformer.Transfromer
    assert not hasattr(transformer, "__path_to_nowhere__")


SIGNATURES = {
    "build_model": "config",
    "EncoderDecoder.forward": "self src_tokens tgt_tokens",
    "EncoderDecoder.encode": "self src_tokens",
    "EncoderDecoder.decode": "self tgt_tokens memory memory_mask *state",
    "DecoderOnly.forward": "self tokens",
    "EncoderOnly.forward": "self tokens",
    "attention": "q k v *mask *is_causal",
    "attention_weights": "q k *mask *is_causal",
    "record_attention": "model",
    "record_sublayers": "model",
    "without_head": "attention head",
    "SinusoidalEncoding": "d_model",
    "SinusoidalEncoding.forward": "self positions",
    "inverse_sqrt_rate": "step d_model warmup_steps scale",
    "length_penalty": "length alpha",
    "greedy_search": "model src_tokens *max_length",
    "beam_search": "model src_tokens *beam_size *alpha *max_length *n_best",
    "generate": "model prompts *choose *max_length",
    "Hypotheses": "tokens scores lengths",
    "train": "settings *build *task *optimizer *schedule *on_event",
    "evaluate": "path *build *task *data",
    "load_pretrained": "path *build",
    "Translator.from_pretrained": "path *build *device",
    "Translator.translate": "self lines *beam_size *alpha",
    "Translator.translate_n_best": "self lines *n_best",
    "load_settings": "path",
}
"""Parameters in order; a star marks a keyword-only parameter."""
STARS = {inspect.Parameter.KEYWORD_ONLY: "*"}


def test_the_promised_parameters_are_there():
    found, required = {}, []
    for name, promised in SIGNATURES.items():
        value = attrgetter(name)(transformer)
        parameters = list(inspect.signature(value).parameters.values())
        count = len(promised.split())
        found[name] = " ".join(f"{STARS.get(item.kind, '')}{item.name}" for item in parameters[:count])
        required += [
            f"{name}: {item.name}" for item in parameters[count:] if item.default is inspect.Parameter.empty
        ]
    assert found == SIGNATURES
    assert not required, "additional parameters must be optional"


def test_the_defaults_of_the_face_are_those_of_the_design():
    def default(function, name):
        return inspect.signature(function).parameters[name].default

    assert default(transformer.inverse_sqrt_rate, "scale") == 1.0
    assert default(transformer.beam_search, "n_best") == 1
    assert default(transformer.attention, "mask") is None
    assert default(transformer.attention, "is_causal") is False
    for function in (transformer.train, transformer.evaluate, transformer.load_pretrained):
        assert default(function, "build") is transformer.build_model
    assert default(transformer.Translator.from_pretrained, "device") == "auto"
