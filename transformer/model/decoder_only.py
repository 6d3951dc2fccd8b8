"""A decoder without an encoder, as in GPT: the stack of `decoder.py`, with no memory to attend to."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.model.cache import DecodeState
from transformer.model.decoder import Decoder
from transformer.model.padding import check_first_tokens


class DecoderOnly(nn.Module):
    """Maps tokens to logits; `logits[:, t]` predicts token t + 1.

    Rows are right-padded with `pad_id`, so the causal order hides the padding from every real token.
    """

    def __init__(self, decoder: Decoder, output: nn.Module, *, pad_id: int = 0, eos_id: int = 2) -> None:
        super().__init__()
        self.decoder = decoder
        self.output = output
        self.pad_id = pad_id
        self.eos_id = eos_id

    def forward(
        self, tokens: Int[Tensor, "batch length"], *, state: DecodeState | None = None
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Compute logits; with a `state`, each row of `tokens` continues the same row of the state."""
        if state is None:
            check_first_tokens(tokens, self.pad_id)
        logits = self.output(self.decoder(tokens, state=state))
        if state is not None:
            state.advance((tokens != self.pad_id).sum(dim=1))
        return logits

    def new_state(self, batch: int, room: int) -> DecodeState:
        """Make an empty state for `batch` rows of at most `room` tokens."""
        return self.decoder.new_state(batch, room)

    def prefill(
        self, tokens: Int[Tensor, "batch length"], *, max_length: int
    ) -> tuple[Float[Tensor, "batch vocabulary"], DecodeState]:
        """Read right-padded prompts and return the logits of each row's next token, and the state.

        The state has room for the prompts and `max_length` more tokens.
        """
        state = self.new_state(tokens.shape[0], tokens.shape[1] + max_length)
        x = self.decoder(tokens, state=state)
        state.advance((tokens != self.pad_id).sum(dim=1))
        last = (state.positions - 1).clamp(min=0)
        return self.output(x[torch.arange(x.shape[0], device=x.device), last]), state

    def step(self, tokens: Int[Tensor, " batch"], state: DecodeState) -> Float[Tensor, "batch vocabulary"]:
        """Read one more token per row, even if it is a pad, and return the logits of the next token."""
        x = self.decoder(tokens[:, None], state=state)
        state.advance(1)
        return self.output(x[:, -1])
