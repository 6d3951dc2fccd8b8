"""Mapping a translation model to CTranslate2's Transformer specification, weight by weight."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer.checkpoint.opening import OpenedRun, require_plausible
from transformer.checkpoint.weights import load_model
from transformer.config import ModelConfig
from transformer.convert.common import refuse, require_package, require_unique
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.files import naming
from transformer.model.attention import MultiHeadAttention
from transformer.model.blocks import DecoderBlock, TransformerBlock
from transformer.model.build import build_model
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.layers import TokenEmbedding

ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "silu": "SWISH"}
Spec = Any
"""A specification object of CTranslate2. It is `Any` because CTranslate2 has no type annotations."""


def write_checkpoint_model(opened: OpenedRun, folder: Path, quantization: str) -> None:
    """Convert a checkpoint and write the converted model to the empty folder; see `write_model`."""
    config = opened.settings.model
    require_plausible(config, opened.checkpoint)
    model = build_model(config)
    load_model(model, opened.checkpoint)
    write_model(folder, model, config, opened.tokenizer, quantization)  # type: ignore[arg-type]


def write_model(
    folder: Path, model: EncoderDecoder, config: ModelConfig, tokenizer: Tokenizer, quantization: str
) -> None:
    """Write a model, its settings and its vocabulary.

    `quantization` is how the weights are stored: `float32`, `bfloat16` or `int8`. Raises `ConversionError`
    for a setting that CTranslate2 does not support.
    """
    specs = require_package("ctranslate2").specs
    if config.key_width != config.value_width:
        raise refuse(
            "d_k",
            config.key_width,
            f"CTranslate2 needs it to equal model.d_v, which is {config.value_width}",
        )
    if config.norm == "pre" and not config.final_norm:
        raise refuse("final_norm", False, "CTranslate2 ends every pre-norm stack in a LayerNorm")
    sizes: dict[str, Any] = {
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.key_width,
        "pre_norm": config.norm == "pre",
        "activation": getattr(specs.common_spec.Activation, ACTIVATIONS[config.activation]),
    }
    encoder = specs.transformer_spec.TransformerEncoderSpec(**sizes)
    decoder = specs.transformer_spec.TransformerDecoderSpec(**sizes)
    spec = specs.TransformerSpec(encoder, decoder)
    set_weights(spec, model, config)
    pieces = require_unique(tokenizer.pieces)
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.layer_norm_epsilon = config.norm_epsilon
    spec.config.bos_token, spec.config.eos_token = pieces[config.bos_id], pieces[config.eos_id]
    spec.config.unk_token = pieces[config.unk_id]
    spec.config.decoder_start_token = pieces[config.bos_id]
    spec.config.add_source_eos = True
    spec.validate()
    spec.optimize(quantization=quantization)
    with naming(folder / "model.bin"):
        spec.save(str(folder))


@torch.no_grad()
def set_weights(spec: Spec, model: EncoderDecoder, config: ModelConfig) -> None:
    encoder, decoder = spec.encoder, spec.decoder
    set_embedding(encoder, encoder.embeddings[0], model.encoder.embedding, config.max_positions)
    set_embedding(decoder, decoder.embeddings, model.decoder.embedding, config.max_positions)
    for layer, block in zip(encoder.layer, model.encoder.blocks, strict=True):
        set_block(layer, block)
    for layer, decoder_block in zip(decoder.layer, model.decoder.blocks, strict=True):
        set_block(layer, decoder_block)
        set_cross_attention(layer.attention, decoder_block)
    for stack, final_norm in ((encoder, model.encoder.final_norm), (decoder, model.decoder.final_norm)):
        if isinstance(final_norm, nn.LayerNorm):
            set_norm(stack.layer_norm, final_norm)
    set_linear(decoder.projection, model.output)


def set_embedding(stack: Spec, embeddings: Spec, embedding: TokenEmbedding, max_positions: int) -> None:
    """Copy an embedding's weight and a table of its positional encoding.

    CTranslate2 multiplies embeddings by √d_model, as our model does, but always reads positions from a table.
    """
    embeddings.weight = numbers(embedding.embedding.weight)
    stack.position_encodings.encodings = numbers(embedding.positions(torch.arange(max_positions)))


def set_block(layer: Spec, block: TransformerBlock) -> None:
    attention: MultiHeadAttention = block.self_attention
    set_linear(layer.self_attention.linear[0], attention.w_q, attention.w_k, attention.w_v)
    set_linear(layer.self_attention.linear[1], attention.w_o)
    set_norm(layer.self_attention.layer_norm, block.around_self_attention.norm)
    set_linear(layer.ffn.linear_0, block.feed_forward.w_1)
    set_linear(layer.ffn.linear_1, block.feed_forward.w_2)
    set_norm(layer.ffn.layer_norm, block.around_feed_forward.norm)


def set_cross_attention(layer: Spec, block: DecoderBlock) -> None:
    attention = block.cross_attention
    set_linear(layer.linear[0], attention.w_q)
    set_linear(layer.linear[1], attention.w_k, attention.w_v)
    set_linear(layer.linear[2], attention.w_o)
    set_norm(layer.layer_norm, block.around_cross_attention.norm)


def set_linear(spec: Spec, *layers: Any) -> None:
    """Set one linear layer; several `layers` with the same input become one, with concatenated outputs."""
    spec.weight = numbers(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        spec.bias = numbers(torch.cat([layer.bias for layer in layers]))


def set_norm(spec: Spec, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = numbers(norm.weight), numbers(norm.bias)


def numbers(tensor: Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()
