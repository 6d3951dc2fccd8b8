"""The alternatives to this project: Marian from Hugging Face's `transformers`, and `torch.nn.Transformer`.

Both are the paper's model with the sizes of a `ModelConfig`, tied embeddings, sinusoidal positions and only
the paper's dropout (on the embeddings and on each sub-layer's output). Both are trained with the simple loop
of their tutorials, with torch's cross-entropy and Adam.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer import ModelConfig, SinusoidalEncoding
from transformer.config import Precision
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
        for module in self.transformer.modules():  # dropout where the paper has it, and nowhere else
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
                module.dropout = nn.Identity()

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


def plain_update(model: nn.Module, precision: Precision, *, pad_id: int) -> Callable[[Tensor, Tensor], None]:
    """The loop of a tutorial; the optimiser is fused, as ours is."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def update(src_tokens: Tensor, tgt_tokens: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(src_tokens, tgt_tokens[:, :-1])
            loss = F.cross_entropy(
                logits.flatten(0, 1), tgt_tokens[:, 1:].flatten(), ignore_index=pad_id, label_smoothing=0.1
            )
        loss.backward()
        optimizer.step()

    return update
