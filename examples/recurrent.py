"""An LSTM encoder-decoder with attention, which the paper replaced, compared with a Transformer.

python examples/recurrent.py [UPDATES]

A custom model needs `forward` for training, and `prefill`, `step` and the state's `select` for decoding.
The program trains both models on the same batches and prints a table of their results.
"""

from dataclasses import dataclass

import torch
from demonstration import compare
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from transformer import KeyValue, ModelBuilder, ModelConfig, build_model, padding_mask


@dataclass
class RecurrentState:
    """The state of decoding. `hidden` and `cell`, (layers, B, D), summarise all tokens decoded so far."""

    hidden: Tensor
    cell: Tensor
    memory: KeyValue
    memory_mask: Tensor

    def select(self, rows: Tensor) -> "RecurrentState":
        memory = KeyValue(*(part[rows] for part in self.memory))
        return RecurrentState(self.hidden[:, rows], self.cell[:, rows], memory, self.memory_mask[rows])


class RecurrentEncoderDecoder(nn.Module):
    """The model of Bahdanau et al. (2015), but with attention after the decoder (Luong et al., 2015)."""

    def __init__(
        self, embedding: nn.Embedding, attention: nn.Module, output: nn.Module, config: ModelConfig
    ) -> None:
        super().__init__()
        d_model, layers = config.d_model, config.num_layers
        options = {"batch_first": True, "dropout": config.dropout}
        self.embedding = embedding
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.LSTM(d_model, d_model // 2, layers, bidirectional=True, **options)
        self.bridge = nn.Linear(d_model, 2 * layers * d_model)
        self.decoder = nn.LSTM(d_model, d_model, layers, **options)
        self.attention = attention  # this package's module, so `record_attention` works
        self.combine = nn.Linear(2 * d_model, d_model)
        self.output = output
        self.pad_id, self.bos_id, self.eos_id = config.pad_id, config.bos_id, config.eos_id

    def forward(self, src_tokens: Tensor, tgt_tokens: Tensor) -> Tensor:
        return self.read(tgt_tokens, self.encode(src_tokens))

    def embed(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.embedding(tokens) * self.embedding.embedding_dim**0.5)

    def encode(self, src_tokens: Tensor) -> RecurrentState:
        """Encode the source and compute the decoder's first state."""
        lengths = (src_tokens != self.pad_id).sum(dim=1).cpu()
        packed = pack_padded_sequence(self.embed(src_tokens), lengths, batch_first=True, enforce_sorted=False)
        memory = pad_packed_sequence(self.encoder(packed)[0], True, total_length=src_tokens.shape[1])[0]
        # The encoder's output at position 0, because the right-to-left LSTM has read the whole source there.
        start = torch.tanh(self.bridge(memory[:, 0])).unflatten(1, (2, self.decoder.num_layers, -1))
        hidden, cell = start.permute(1, 2, 0, 3).contiguous()  # (2, layers, B, D)
        mask = padding_mask(src_tokens, self.pad_id)
        return RecurrentState(hidden, cell, self.attention.project_kv(memory), mask)

    def read(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        """Update the state and compute logits for the token after each of `tokens`: (B, T) -> (B, T, V)."""
        x, (state.hidden, state.cell) = self.decoder(self.embed(tokens), (state.hidden, state.cell))
        context = self.attention(x, state.memory, mask=state.memory_mask)
        return self.output(torch.tanh(self.combine(torch.cat((x, context), dim=-1))))

    def prefill(self, src_tokens: Tensor, *, max_length: int) -> tuple[Tensor, RecurrentState]:  # noqa: ARG002
        state = self.encode(src_tokens)
        return self.step(src_tokens.new_full((len(src_tokens),), self.bos_id), state), state

    def step(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        return self.read(tokens[:, None], state)[:, -1]


def build(config: ModelConfig) -> nn.Module:
    builder = ModelBuilder(config)
    embedding = builder.vocabulary()
    model = RecurrentEncoderDecoder(embedding, builder.attention(), builder.output(embedding), config)
    builder.initialise(model)
    return model


def main() -> None:
    # With this width, the LSTM model has almost as many parameters as the Transformer. Three learning rates
    # were tried for each model, and the best is used here.
    lstm = {"d_model": 152, "rate_scale": 1.0}
    compare({"Transformer": (build_model, {}), "LSTM with attention": (build, lstm)})


if __name__ == "__main__":
    main()
