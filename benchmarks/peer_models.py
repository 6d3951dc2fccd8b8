"""The paper's model in four other libraries, each as a module from source and target tokens to logits.

All have the sizes of a `ModelConfig`, one matrix for both embeddings and the projection to the vocabulary,
and only the paper's dropout (on the embeddings and on each sub-layer's output). Differences from ours, which
is post-norm and has no biases in attention and none in the projection to the vocabulary:

- Marian of Hugging Face's `transformers`: attention has biases.
- `torch.nn.Transformer`: attention has biases; each stack ends in one more LayerNorm.
- torchlingo: `torch.nn.Transformer` with a bias in the projection, and a padding mask for the target. It
  cannot tie its matrices itself; they are tied here after it has been built.
- x-transformers: LayerNorms have no bias, the positions are scaled by a learned number and the embeddings are
  not scaled.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer import ModelConfig, SinusoidalEncoding
from transformer.testing.parity.hugging_face import marian_config

LONGEST = 512


def marian(config: ModelConfig) -> nn.Module:
    """Hugging Face's implementation of Marian, with the attention that it chooses itself."""
    from transformers import MarianMTModel

    theirs = marian_config(
        config,
        activation_function="relu",
        dropout=config.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        max_position_embeddings=LONGEST,
        pad_token_id=config.pad_id,
        bos_token_id=config.bos_id,
        eos_token_id=config.eos_id,
        decoder_start_token_id=config.bos_id,
        forced_eos_token_id=None,
        use_cache=False,
    )
    return Marian(MarianMTModel(theirs))


class Marian(nn.Module):
    """Maps source and target tokens to logits, like the other models here."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, src_tokens: Int[Tensor, "batch source"], tgt_tokens: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        mask = src_tokens != self.model.config.pad_token_id
        return self.model(
            input_ids=src_tokens, attention_mask=mask, decoder_input_ids=tgt_tokens, use_cache=False
        ).logits


class TorchTransformer(nn.Module):
    """`torch.nn.Transformer` between an embedding and a projection of our own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.scale = math.sqrt(config.d_model)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = nn.Transformer(
            config.d_model,
            config.num_heads,
            config.num_layers,
            config.num_layers,
            config.d_ff,
            config.dropout,
            batch_first=True,
        )
        self.output = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.output.weight = self.embedding.weight
        self.register_buffer("positions", SinusoidalEncoding(config.d_model)(torch.arange(LONGEST)))
        use_only_the_dropout_of_the_paper(self.transformer)

    def embed(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        return self.dropout(self.embedding(tokens) * self.scale + self.positions[: tokens.shape[1]])

    def forward(
        self, src_tokens: Int[Tensor, "batch source"], tgt_tokens: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        is_pad = src_tokens == self.pad_id
        order = self.transformer.generate_square_subsequent_mask(tgt_tokens.shape[1], src_tokens.device)
        hidden = self.transformer(
            self.embed(src_tokens),
            self.embed(tgt_tokens),
            tgt_mask=order,
            tgt_is_causal=True,
            src_key_padding_mask=is_pad,
            memory_key_padding_mask=is_pad,
        )
        return self.output(hidden)


def use_only_the_dropout_of_the_paper(transformer: nn.Transformer) -> None:
    """Switch off torch's dropout of attention weights and inside feed-forward networks."""
    for module in transformer.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            module.dropout = nn.Identity()


def torchlingo(config: ModelConfig) -> nn.Module:
    """The Transformer of torchlingo, with one matrix for embeddings and projection."""
    from torchlingo.models import SimpleTransformer

    model = SimpleTransformer(
        src_vocab_size=config.vocab_size,
        tgt_vocab_size=config.vocab_size,
        d_model=config.d_model,
        n_heads=config.num_heads,
        num_encoder_layers=config.num_layers,
        num_decoder_layers=config.num_layers,
        d_ff=config.d_ff,
        max_seq_length=LONGEST,
        dropout=config.dropout,
        pad_idx=config.pad_id,
        norm_first=False,
    )
    nn.init.normal_(model.src_tok_emb.weight, std=config.d_model**-0.5)
    model.tgt_tok_emb.weight = model.generator.weight = model.src_tok_emb.weight
    use_only_the_dropout_of_the_paper(model.transformer)
    return model


class XTransformer(nn.Module):
    """Encoder and decoder of x-transformers, with the attention that it chooses itself."""

    def __init__(self, config: ModelConfig) -> None:
        from x_transformers import Decoder, Encoder, TransformerWrapper
        from x_transformers.x_transformers import TokenEmbedding

        super().__init__()
        self.pad_id = config.pad_id
        embedding = TokenEmbedding(config.d_model, config.vocab_size)
        output = nn.Linear(config.d_model, config.vocab_size, bias=False)
        output.weight = embedding.emb.weight
        layers = {
            "dim": config.d_model,
            "depth": config.num_layers,
            "heads": config.num_heads,
            "attn_dim_head": config.d_model // config.num_heads,
            "attn_sublayer_dropout": config.dropout,
            "ff_mult": config.d_ff / config.d_model,
            "ff_custom_activation": nn.ReLU(),
            "ff_sublayer_dropout": config.dropout,
            "pre_norm": False,
        }
        around = {
            "num_tokens": config.vocab_size,
            "max_seq_len": LONGEST,
            "token_emb": embedding,
            "emb_dropout": config.dropout,
            "scaled_sinu_pos_emb": True,
        }
        self.encoder = TransformerWrapper(attn_layers=Encoder(**layers), return_only_embed=True, **around)
        self.decoder = TransformerWrapper(
            attn_layers=Decoder(**layers, cross_attend=True), to_logits=output, **around
        )
        nn.init.normal_(embedding.emb.weight, std=config.d_model**-0.5)

    def forward(
        self, src_tokens: Int[Tensor, "batch source"], tgt_tokens: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        mask = src_tokens != self.pad_id
        memory = self.encoder(src_tokens, mask=mask, return_embeddings=True)
        return self.decoder(tgt_tokens, context=memory, context_mask=mask)
