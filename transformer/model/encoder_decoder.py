"""The Transformer of the paper (§3, figure 1): a decoder that attends to the output of an encoder."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from transformer.model.cache import DecodeState
from transformer.model.decoder import Decoder
from transformer.model.encoder import Encoder
from transformer.model.masks import padding_mask
from transformer.model.padding import check_first_tokens


class EncoderDecoder(nn.Module):
    """Maps source and target tokens to logits.

    Both sides are right-padded with `pad_id`. `tgt_tokens` starts with BOS, and `logits[:, t]` predicts
    `tgt_tokens[:, t + 1]`. The decoder needs no padding mask, because the causal order hides padding from
    real tokens.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        output: nn.Module,
        *,
        pad_id: int = 0,
        bos_id: int = 1,
        eos_id: int = 2,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output = output
        self.pad_id = pad_id
        self.bos_id = bos_id
        self.eos_id = eos_id

    def forward(
        self, src_tokens: Int[Tensor, "batch source"], tgt_tokens: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocabulary"]:
        return self.decode(tgt_tokens, *self.encode(src_tokens))

    def encode(
        self, src_tokens: Int[Tensor, "batch source"]
    ) -> tuple[Float[Tensor, "batch source d_model"], Bool[Tensor, "batch 1 1 source"]]:
        """Compute the memory that the decoder attends to, and its mask, which is True at real tokens."""
        return self.encoder(src_tokens), padding_mask(src_tokens, self.pad_id)

    def decode(
        self,
        tgt_tokens: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None,
        *,
        state: DecodeState | None = None,
    ) -> Float[Tensor, "batch target vocabulary"]:
        """Compute the logits at every position of `tgt_tokens`.

        If a `state` from `new_state` is given, each row of `tgt_tokens` continues the sequence in the same
        row of the state. `memory` is then ignored, because the state already holds its keys and values.
        Gradients do not flow through the caches of the state.
        """
        if state is None:
            if self.bos_id != self.pad_id:  # Marian models start the target with a pad
                check_first_tokens(tgt_tokens, self.pad_id)
            return self.output(self.decoder(tgt_tokens, self.decoder.project_memory(memory), memory_mask))
        logits = self.output(self.decoder(tgt_tokens, state.memory, memory_mask, state=state))
        state.advance((tgt_tokens != self.pad_id).sum(dim=1))
        return logits

    def new_state(
        self,
        memory: Float[Tensor, "batch source d_model"],
        memory_mask: Bool[Tensor, "batch 1 1 source"] | None,
        room: int,
    ) -> DecodeState:
        """Make a state with the keys and values of the memory, and room for `room` target tokens per row."""
        projected = self.decoder.project_memory(memory)
        return self.decoder.new_state(memory.shape[0], room, projected, memory_mask)

    def prefill(
        self, src_tokens: Int[Tensor, "batch source"], *, max_length: int
    ) -> tuple[Float[Tensor, "batch vocabulary"], DecodeState]:
        """Encode the sources, read BOS, and return the logits of each row's first token, and the state.

        The state has room for outputs of `max_length` tokens.
        """
        memory, mask = self.encode(src_tokens)
        mask_of_pads = None if mask.all() else mask  # attention is faster without a mask
        state = self.new_state(memory, mask_of_pads, max_length)
        bos = src_tokens.new_full(src_tokens.shape[:1], self.bos_id)
        return self.step(bos, state), state

    def step(self, tokens: Int[Tensor, " batch"], state: DecodeState) -> Float[Tensor, "batch vocabulary"]:
        """Read one more token per row, even if it is a pad, and return the logits of the next token."""
        x = self.decoder(tokens[:, None], state.memory, state.memory_mask, state=state)
        state.advance(1)
        return self.output(x[:, -1])
