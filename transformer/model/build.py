"""Building a model from its configuration: the one place where numbers and names become modules."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transformer.config import ModelConfig
from transformer.model.attention import MultiHeadAttention
from transformer.model.blocks import DecoderBlock, TransformerBlock
from transformer.model.decoder import Decoder
from transformer.model.decoder_only import DecoderOnly
from transformer.model.encoder import Encoder
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.encoder_only import EncoderOnly
from transformer.model.layers import ACTIVATIONS, NORMS, FeedForward, PostNorm, TokenEmbedding
from transformer.model.positions import POSITIONS


def build_model(config: ModelConfig) -> nn.Module:
    """Build the model that `config` describes; initial values come from torch's global random generator."""
    return ModelBuilder(config).build()


class ModelBuilder:
    """Builds the parts of a model and assembles them. Override one method to replace one part."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def build(self) -> nn.Module:
        variants = {
            "encoder_decoder": self.encoder_decoder,
            "decoder_only": self.decoder_only,
            "encoder_only": self.encoder_only,
        }
        model = variants[self.config.kind]()
        self.initialise(model)
        return model

    # The parts

    def attention(self, make: Callable[..., MultiHeadAttention] = MultiHeadAttention) -> MultiHeadAttention:
        """Make one attention module. `make` is `MultiHeadAttention` or a subclass with the same arguments."""
        config = self.config
        return make(
            config.d_model,
            config.num_heads,
            d_k=config.key_width,
            d_v=config.value_width,
            bias=config.attention_bias,
            dropout=config.attention_dropout,
        )

    def feed_forward(self) -> nn.Module:
        config = self.config
        activation = ACTIVATIONS[config.activation]
        return FeedForward(config.d_model, config.d_ff, activation, config.activation_dropout)

    def residual(self) -> PostNorm:
        config = self.config
        return NORMS[config.norm](config.d_model, config.dropout, config.norm_epsilon)

    def positions(self) -> nn.Module:
        return POSITIONS[self.config.positions](self.config)

    def token_embedding(self, embedding: nn.Embedding) -> TokenEmbedding:
        return TokenEmbedding(embedding, self.positions(), self.config.dropout)

    def block(self) -> TransformerBlock:
        return TransformerBlock(self.attention(), self.feed_forward(), self.residual)

    def decoder_block(self) -> DecoderBlock:
        return DecoderBlock(self.attention(), self.attention(), self.feed_forward(), self.residual)

    def final_norm(self) -> nn.Module:
        if not self.config.final_norm:
            return nn.Identity()
        return NORMS[self.config.norm].final_norm(self.config.d_model, self.config.norm_epsilon)

    def vocabulary(self) -> nn.Embedding:
        return nn.Embedding(self.config.vocab_size, self.config.d_model)

    def source_vocabulary(self) -> nn.Embedding:
        """Make the encoder's embedding in an encoder-decoder, which the decoder may share."""
        config = self.config
        return (
            self.vocabulary()
            if config.shares_vocabulary
            else nn.Embedding(config.source_size, config.d_model)
        )

    def output(self, embedding: nn.Embedding) -> nn.Linear:
        """Make the projection to the vocabulary; it uses the matrix of `embedding` if embeddings are tied."""
        config = self.config
        output = nn.Linear(config.d_model, config.vocab_size, bias=config.output_bias)
        if config.tie_embeddings:
            output.weight = embedding.weight
        return output

    # The stacks

    def encoder(self, embedding: nn.Embedding, make: type[Encoder] = Encoder) -> Encoder:
        blocks = [self.block() for _ in range(self.config.num_layers)]
        return make(self.token_embedding(embedding), blocks, self.final_norm(), pad_id=self.config.pad_id)

    def decoder(self, embedding: nn.Embedding, block: Callable[[], TransformerBlock]) -> Decoder:
        """Make a stack; `block` is `self.decoder_block` if there is an encoder, else `self.block`."""
        blocks = [block() for _ in range(self.config.decoder_layers)]
        return Decoder(self.token_embedding(embedding), blocks, self.final_norm())

    # The variants

    def encoder_decoder(self) -> EncoderDecoder:
        config = self.config
        source = self.source_vocabulary()
        is_shared = config.tie_embeddings and config.shares_vocabulary
        target = source if is_shared else self.vocabulary()
        return EncoderDecoder(
            self.encoder(source),
            self.decoder(target, self.decoder_block),
            self.output(target),
            pad_id=config.pad_id,
            bos_id=config.bos_id,
            eos_id=config.eos_id,
        )

    def decoder_only(self) -> DecoderOnly:
        embedding = self.vocabulary()
        return DecoderOnly(
            self.decoder(embedding, self.block),
            self.output(embedding),
            pad_id=self.config.pad_id,
            eos_id=self.config.eos_id,
        )

    def encoder_only(self) -> Encoder:
        return self.encoder(self.vocabulary(), EncoderOnly)

    # Initial values

    def initialise(self, model: nn.Module) -> None:
        """Initialise as the authors' first release does, because the paper gives no initial values.

        Embeddings and the projection to the vocabulary: normal with standard deviation d_model^-½, so that
        embeddings × √d_model and logits have unit scale. Biases: 0. Other matrices: Glorot uniform. The
        release keeps W^Q, W^K and W^V in one d_model × 3 d_model matrix. Glorot's range for this matrix is
        1/√2 times the range for a d_model × d_model matrix, so W^Q, W^K and W^V get a gain of 1/√2 here. W^O
        and W_2, which write to the residual stream, are then multiplied by `residual_gain`.
        """
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                for projection in (module.w_q, module.w_k, module.w_v):
                    nn.init.xavier_uniform_(projection.weight, gain=2**-0.5)
                scale(module.w_o.weight, self.config.residual_gain)
            elif isinstance(module, FeedForward):
                scale(module.w_2.weight, self.config.residual_gain)
        deviation = self.config.d_model**-0.5
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=deviation)
        output = getattr(model, "output", None)
        if isinstance(output, nn.Linear) and not self.config.tie_embeddings:
            nn.init.normal_(output.weight, std=deviation)


@torch.no_grad()
def scale(weight: Tensor, factor: float) -> None:
    weight.mul_(factor)
