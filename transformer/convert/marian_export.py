"""Converting a run to a Hugging Face Marian model with the same logits (`docs/convert.md`)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from transformer.checkpoint.pretrained import load_opened
from transformer.checkpoint.writing import write_tensors
from transformer.config import ModelConfig, Settings
from transformer.convert.common import (
    ConversionError,
    conversion_folder,
    open_convertible,
    refuse,
    require_package,
    require_unique,
)
from transformer.convert.marian import TOLERANCE, compare, load_original
from transformer.convert.marian_folder import ACTIVATIONS, CONFIG, GENERATION, TOKENIZER_CONFIG, VOCABULARY
from transformer.convert.marian_names import interleaved, layer_weights
from transformer.convert.marian_programs import PROGRAMS
from transformer.convert.marian_safetensors import OUTPUT, OUTPUT_BIAS, POSITIONS, SHARED, WEIGHTS
from transformer.convert.marian_safetensors import SOURCE as SOURCE_EMBEDDING
from transformer.convert.marian_safetensors import TARGET as TARGET_EMBEDDING
from transformer.convert.marian_weights import position_table
from transformer.data.tokenizers.marian import SOURCE, TARGET, MarianTokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import SentencePieceTokenizer
from transformer.files import write


def to_marian(name: str | Path, output: str | Path, *, say: Callable[[str], None] = lambda _: None) -> Path:
    """Convert the run `name` to a Marian model in the folder `output`, which appears only when complete.

    `MarianMTModel` and `MarianTokenizer` of `transformers` can load the folder. The Marian model uses our
    ids, and its decoder starts with our BOS. The Marian model's logits are compared with the run's, and `say`
    reports the difference. Raises `ValueError` for a setting that Marian does not support.
    """
    require_package("transformers")
    model, tokenizer, settings = load_opened(open_convertible(name), device="cpu")
    require_expressible(settings.model)
    output = Path(output)
    with conversion_folder(output) as folder:
        write_tensors(marian_weights(model.state_dict(), settings.model), folder / WEIGHTS, {"format": "pt"})
        write_tokenizer(folder, tokenizer, settings)
        write_json(folder / CONFIG, model_settings(settings.model))
        write_json(folder / GENERATION, generation_settings(settings))
        ids = list(range(settings.model.vocab_size))  # both models use the same ids
        with load_original(folder) as theirs:
            difference, largest = compare(model, theirs, ids, ids)
        say(f"largest difference from the run's logits: {difference:.1e} (largest logit: {largest:.1f})")
        if not difference <= TOLERANCE * max(1.0, largest):
            raise ConversionError(
                f"{name}: the converted model's logits differ from the run's by {difference:.1e}; "
                f"model.norm_epsilon is {settings.model.norm_epsilon}, but transformers always uses "
                f"{PROGRAMS['transformers'].norm_epsilon}"
            )
    return output


def require_expressible(config: ModelConfig) -> None:
    width = config.d_model // config.num_heads
    for setting, found, valid in (
        ("norm", config.norm, ["post"]),
        ("positions", config.positions, ["sinusoidal", "tensor2tensor"]),
        ("d_k", config.key_width, [width]),
        ("d_v", config.value_width, [width]),
    ):
        if found not in valid:
            raise refuse(setting, found, f"Marian has only {' and '.join(map(str, valid))}")


def marian_weights(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename our weights to Hugging Face's names, and reorder channels as in Marian; missing biases are 0."""
    channels = interleaved(config.d_model).argsort()
    converted = {}
    for part in layer_weights(config.num_layers):
        tensor = weights.get(part.ours)
        if tensor is None:  # a bias that our model lacks
            tensor = torch.zeros(len(weights[part.ours.removesuffix("bias") + "weight"]))
        converted[part.hugging_face] = in_order(tensor, part.channels, channels)
    embeddings = {"output.weight": SHARED}
    if not config.tie_embeddings:
        embeddings = {
            "encoder.embedding.embedding.weight": SOURCE_EMBEDDING,
            "decoder.embedding.embedding.weight": TARGET_EMBEDDING,
            "output.weight": OUTPUT,
        }
    for ours, theirs in embeddings.items():
        converted[theirs] = in_order(weights[ours], 1, channels)
    if config.positions != PROGRAMS["transformers"].positions:
        for name in POSITIONS:  # if the file has a positional encoding, transformers uses it
            converted[name] = position_table(config, config.max_positions)
    converted[OUTPUT_BIAS] = weights.get("output.bias", torch.zeros(config.vocab_size))[None].clone()
    return converted


def in_order(tensor: Tensor, dimension: int | None, channels: Int[Tensor, " d_model"]) -> Tensor:
    return tensor.clone() if dimension is None else tensor.index_select(dimension, channels)


def model_settings(config: ModelConfig) -> dict[str, Any]:
    sizes = {
        "layers": config.num_layers,
        "attention_heads": config.num_heads,
        "ffn_dim": config.d_ff,
        "layerdrop": 0.0,
    }
    sides = ("encoder", "decoder")
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "d_model": config.d_model,
        **{f"{side}_{name}": value for side in sides for name, value in sizes.items()},
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "activation_function": next(
            theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation
        ),
        "max_position_embeddings": config.max_positions,
        "static_position_embeddings": True,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": config.tie_embeddings,
        "tie_word_embeddings": config.tie_embeddings,
        **special_token_ids(config),
    }


def special_token_ids(config: ModelConfig) -> dict[str, int | None]:
    return {
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "decoder_start_token_id": config.bos_id,
        "forced_eos_token_id": None,
    }


def generation_settings(settings: Settings) -> dict[str, Any]:
    """Return search settings close to the run's; the length penalty here is |y| ** length_penalty."""
    return {
        **special_token_ids(settings.model),
        "num_beams": settings.decoding.beam_size,
        "length_penalty": settings.decoding.alpha,
        "max_length": settings.model.max_positions,
    }


def write_tokenizer(folder: Path, tokenizer: Tokenizer, settings: Settings) -> None:
    """Write the tokenizer; a joint SentencePiece model is written twice, because Marian needs two models."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = tokenizer.processor.serialized_model_proto()
        models = {SOURCE: model, TARGET: model}
    elif isinstance(tokenizer, MarianTokenizer) and tokenizer.is_joint:
        models = tokenizer.models
    elif isinstance(tokenizer, MarianTokenizer):
        raise ConversionError(
            "the run's source and target have two vocabularies; only a joint vocabulary can be written"
        )
    else:
        raise ConversionError(f"data.tokenizer is {settings.data.tokenizer}; Marian has only sentencepiece")
    for name, content in models.items():
        write(folder / name, content)
    config, pieces = settings.model, require_unique(tokenizer.pieces)
    write_json(folder / VOCABULARY, {piece: number for number, piece in enumerate(pieces)})
    ids = {"pad": config.pad_id, "bos": config.bos_id, "eos": config.eos_id, "unk": config.unk_id}
    description = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": settings.data.source,
        "target_lang": settings.data.target,
        **{f"{name}_token": pieces[number] for name, number in ids.items()},
        "model_max_length": config.max_positions,
    }
    write_json(folder / TOKENIZER_CONFIG, description)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
