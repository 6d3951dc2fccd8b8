"""Compares our layers with Hugging Face's Marian, GPT-2 and BERT, given the same random weights.

These three Transformers make different choices: pre-norm or post-norm, sinusoidal or learned positions,
embeddings multiplied by √d_model or not. `ModelBuilder` builds our model; for GPT-2 and BERT, a small
subclass replaces the embedding.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.config import ModelConfig
from transformer.model.attention import MultiHeadAttention
from transformer.model.blocks import TransformerBlock
from transformer.model.build import ModelBuilder
from transformer.model.layers import FeedForward, TokenEmbedding
from transformer.testing.comparison import Comparison
from transformer.testing.parity.samples import (
    SOURCE_LENGTHS,
    TARGET_LENGTHS,
    random_tokens,
    randomised,
    real,
    small_config,
)

Module = Any
"""A module of ours or of Hugging Face's; untyped, because submodules are looked up by name."""


def marian(device: torch.device) -> Iterator[Comparison]:
    """Compare with Marian, which has post-norm, biases and sinusoids.

    The first OPUS-MT models use ReLU, and later OPUS-MT models use SiLU.
    """
    for activation, theirs_calls_it in (("relu", "relu"), ("silu", "swish")):
        config = small_config(activation=activation, attention_bias=True, output_bias=True)
        theirs = random_marian(config, theirs_calls_it)
        ours = from_marian(theirs, config).to(device)
        pad = theirs.config.pad_token_id
        source, has_token = random_tokens(SOURCE_LENGTHS, config).to(device), real(SOURCE_LENGTHS).to(device)
        target = random_tokens(TARGET_LENGTHS, config, first=pad).to(device)
        is_real = real(TARGET_LENGTHS).to(device)
        output = theirs.to(device)(
            input_ids=source.masked_fill(~has_token, pad), attention_mask=has_token, decoder_input_ids=target
        )
        yield Comparison(f"logits with {activation}", ours(source, target)[is_real], output.logits[is_real])


def marian_config(config: ModelConfig, **values: Any) -> Any:
    """Make a `MarianConfig` with the sizes in `config`; `values` are further settings with Marian's names."""
    from transformers import MarianConfig

    return MarianConfig(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        encoder_layers=config.num_layers,
        decoder_layers=config.num_layers,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        scale_embedding=True,
        **values,
    )


def random_marian(config: ModelConfig, activation: str) -> Module:
    """Make a random Marian model. As in OPUS-MT, pad is the last token id and also starts every target."""
    from transformers import MarianMTModel

    pad_id = config.vocab_size - 1
    theirs = marian_config(
        config,
        max_position_embeddings=config.max_positions,
        activation_function=activation,
        pad_token_id=pad_id,
        decoder_start_token_id=pad_id,
    )
    model = MarianMTModel(theirs)
    sinusoids = model.model.encoder.embed_positions.weight.clone()
    randomised(model)
    for stack in (model.model.encoder, model.model.decoder):
        stack.embed_positions.weight.data.copy_(sinusoids)
    model.final_logits_bias.normal_()
    return model


def from_marian(theirs: Module, config: ModelConfig) -> nn.Module:
    """Make our model with Marian's weights.

    In Marian's positional encoding, all sines come before all cosines; in ours, each sine is followed by its
    cosine. The channels of every vector of width d_model are therefore permuted.
    """
    ours: Module = ModelBuilder(config).build()
    ours.bos_id = theirs.config.decoder_start_token_id  # Marian's pad, an ordinary token in our model
    channels = torch.arange(config.d_model).view(2, -1).T.flatten()
    copy(ours.decoder.embedding.embedding, theirs.model.shared, columns=channels)
    ours.output.bias.data.copy_(theirs.final_logits_bias[0])
    stacks = ((ours.encoder, theirs.model.encoder), (ours.decoder, theirs.model.decoder))
    for our_stack, their_stack in stacks:
        for block, layer in zip(our_stack.blocks, their_stack.layers, strict=True):
            copy_marian_attention(block.self_attention, layer.self_attn, channels)
            copy(block.around_self_attention.norm, layer.self_attn_layer_norm, rows=channels)
            copy(block.feed_forward.w_1, layer.fc1, columns=channels)
            copy(block.feed_forward.w_2, layer.fc2, rows=channels)
            copy(block.around_feed_forward.norm, layer.final_layer_norm, rows=channels)
    for block, layer in zip(ours.decoder.blocks, theirs.model.decoder.layers, strict=True):
        copy_marian_attention(block.cross_attention, layer.encoder_attn, channels)
        copy(block.around_cross_attention.norm, layer.encoder_attn_layer_norm, rows=channels)
    return with_epsilon(ours, 1e-5)


def copy_marian_attention(ours: MultiHeadAttention, theirs: Module, channels: Tensor) -> None:
    copy(ours.w_q, theirs.q_proj, columns=channels)
    copy(ours.w_k, theirs.k_proj, columns=channels)
    copy(ours.w_v, theirs.v_proj, columns=channels)
    copy(ours.w_o, theirs.out_proj, rows=channels)


class UnscaledEmbedding(TokenEmbedding):
    """An embedding without the factor √d_model, as in GPT-2 and BERT."""

    def __init__(self, embedding: nn.Embedding, positions: nn.Module, dropout: float = 0.0) -> None:
        super().__init__(embedding, positions, dropout)
        self.scale = 1.0


class NormalisedEmbedding(UnscaledEmbedding):
    """An embedding followed by a LayerNorm, as in BERT."""

    def __init__(self, embedding: nn.Embedding, positions: nn.Module, dropout: float = 0.0) -> None:
        super().__init__(embedding, positions, dropout)
        self.norm = nn.LayerNorm(embedding.embedding_dim)

    def forward(
        self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "#batch length"]
    ) -> Float[Tensor, "batch length d_model"]:
        return self.norm(super().forward(tokens, positions))


class GPT2Builder(ModelBuilder):
    def token_embedding(self, embedding: nn.Embedding) -> TokenEmbedding:
        return UnscaledEmbedding(embedding, self.positions())


class BertBuilder(ModelBuilder):
    def token_embedding(self, embedding: nn.Embedding) -> TokenEmbedding:
        return NormalisedEmbedding(embedding, self.positions())


def gpt2(device: torch.device) -> Iterator[Comparison]:
    """Compare with GPT-2, which has pre-norm, learned positions, biases and a tied output matrix.

    The GPT-2 model here uses the exact GELU, as our model does, instead of GPT-2's usual approximation.
    """
    config = small_config(
        kind="decoder_only", norm="pre", positions="learned", activation="gelu", attention_bias=True
    )
    theirs = random_gpt2(config)
    ours = from_gpt2(theirs, config).to(device)
    tokens, is_real = random_tokens(TARGET_LENGTHS, config).to(device), real(TARGET_LENGTHS).to(device)
    expected = theirs.to(device)(tokens, attention_mask=is_real).logits
    yield Comparison("logits", ours(tokens)[is_real], expected[is_real])


def random_gpt2(config: ModelConfig) -> Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.max_positions,
        n_embd=config.d_model,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        n_inner=config.d_ff,
        activation_function="gelu",
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_id,
    )
    return randomised(GPT2LMHeadModel(sizes))


def from_gpt2(theirs: Module, config: ModelConfig) -> nn.Module:
    ours: Module = GPT2Builder(config).build()
    decoder = ours.decoder
    copy(decoder.embedding.embedding, theirs.transformer.wte)
    copy(decoder.embedding.positions, theirs.transformer.wpe)
    copy(decoder.final_norm, theirs.transformer.ln_f)
    for block, layer in zip(decoder.blocks, theirs.transformer.h, strict=True):
        copy_gpt2_layer(block, layer)
    return with_epsilon(ours, 1e-5)


@torch.no_grad()
def copy_gpt2_layer(block: TransformerBlock, layer: Module) -> None:
    """Copy a layer of GPT-2, which stores transposed matrices, with W^Q, W^K and W^V concatenated."""
    attention = block.self_attention
    thirds = zip(layer.attn.c_attn.weight.chunk(3, dim=1), layer.attn.c_attn.bias.chunk(3), strict=True)
    for projection, (weight, bias) in zip((attention.w_q, attention.w_k, attention.w_v), thirds, strict=True):
        projection.weight.copy_(weight.T)
        projection.bias.copy_(bias)
    assert isinstance(block.feed_forward, FeedForward)  # ModelBuilder makes no other class
    for ours, theirs in (
        (attention.w_o, layer.attn.c_proj),
        (block.feed_forward.w_1, layer.mlp.c_fc),
        (block.feed_forward.w_2, layer.mlp.c_proj),
    ):
        ours.weight.copy_(theirs.weight.T)
        ours.bias.copy_(theirs.bias)
    copy(block.around_self_attention.norm, layer.ln_1)
    copy(block.around_feed_forward.norm, layer.ln_2)


def bert(device: torch.device) -> Iterator[Comparison]:
    """Compare with BERT: post-norm, learned positions, biases, and a LayerNorm after the embedding."""
    config = small_config(kind="encoder_only", positions="learned", activation="gelu", attention_bias=True)
    theirs = random_bert(config)
    ours = from_bert(theirs, config).to(device)
    tokens, is_real = random_tokens(SOURCE_LENGTHS, config).to(device), real(SOURCE_LENGTHS).to(device)
    expected = theirs.to(device)(tokens, attention_mask=is_real).last_hidden_state
    yield Comparison("hidden states", ours(tokens)[is_real], expected[is_real])


def random_bert(config: ModelConfig) -> Module:
    from transformers import BertConfig, BertModel

    sizes = BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.d_ff,
        max_position_embeddings=config.max_positions,
        pad_token_id=config.pad_id,
    )
    return randomised(BertModel(sizes, add_pooling_layer=False))


def from_bert(theirs: Module, config: ModelConfig) -> nn.Module:
    """Make our model with BERT's weights.

    BERT adds a vector for the segment of each token. All tokens here belong to segment 0, so the vector of
    segment 0 is added to each of our position embeddings.
    """
    ours: Module = BertBuilder(config).build()
    embeddings = theirs.embeddings
    copy(ours.embedding.embedding, embeddings.word_embeddings)
    copy(ours.embedding.positions, embeddings.position_embeddings)
    ours.embedding.positions.weight.data += embeddings.token_type_embeddings.weight[0]
    copy(ours.embedding.norm, embeddings.LayerNorm)
    for block, layer in zip(ours.blocks, theirs.encoder.layer, strict=True):
        copy(block.self_attention.w_q, layer.attention.self.query)
        copy(block.self_attention.w_k, layer.attention.self.key)
        copy(block.self_attention.w_v, layer.attention.self.value)
        copy(block.self_attention.w_o, layer.attention.output.dense)
        copy(block.around_self_attention.norm, layer.attention.output.LayerNorm)
        copy(block.feed_forward.w_1, layer.intermediate.dense)
        copy(block.feed_forward.w_2, layer.output.dense)
        copy(block.around_feed_forward.norm, layer.output.LayerNorm)
    return with_epsilon(ours, 1e-12)


@torch.no_grad()
def copy(ours: Module, theirs: Module, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Copy the weight, and the bias if there is one; `rows` and `columns` select the entries of `theirs`."""
    for name, parameter in ours.named_parameters():
        value = getattr(theirs, name)
        value = value if rows is None else value[rows]
        parameter.copy_(value if columns is None or value.dim() < 2 else value[:, columns])


def with_epsilon(model: Module, epsilon: float) -> Module:
    """Set the epsilon of every LayerNorm, which differs between models; return the model in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = epsilon
    return model.eval()
