"""The decoder without an encoder: each position attends to itself and to what is before it."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.model.blocks import TransformerBlock
from transformer.model.cache import DecodeState, causal_past
from transformer.model.layers import TokenEmbedding
from transformer.model.masks import check_first_tokens
from transformer.model.positions import require_positions


class DecoderOnly(nn.Module):
    """Tokens to logits; `logits[:, t]` predicts token t + 1.

    Rows are right-padded with `pad_id`: the causal order keeps pads from every real token.
    """

    blocks: Sequence[TransformerBlock]  # an nn.ModuleList, which cannot say so itself

    def __init__(
        self,
        embedding: TokenEmbedding,
        blocks: Iterable[TransformerBlock],
        final_norm: nn.Module,
        output: nn.Module,
        *,
        pad_id: int = 0,
        eos_id: int = 2,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.final_norm = final_norm
        self.output = output
        self.pad_id = pad_id
        self.eos_id = eos_id

    def forward(
        self, tokens: Int[Tensor, "batch length"], *, state: DecodeState | None = None
    ) -> Float[Tensor, "batch length vocabulary"]:
        """With a `state`, `tokens` go on where each row of the state stands."""
        if state is None:
            check_first_tokens(tokens, self.pad_id)
        logits = self.output(self.hidden(tokens, state))
        if state is not None:
            state.advance((tokens != self.pad_id).sum(dim=1))
        return logits

    def hidden(
        self, tokens: Int[Tensor, "batch length"], state: DecodeState | None
    ) -> Float[Tensor, "batch length d_model"]:
        past = causal_past(tokens, state, len(self.blocks))
        x = self.embedding(tokens, past.positions)
        for block, cache in zip(self.blocks, past.caches, strict=True):
            x = block(x, positions=past.positions, mask=past.mask, is_causal=past.is_causal, cache=cache)
        return self.final_norm(x)

    def new_state(self, batch: int, room: int) -> DecodeState:
        """An empty state for `batch` rows of at most `room` tokens."""
        require_positions(self.embedding.positions, room)
        return DecodeState.empty([block.self_attention for block in self.blocks], batch, room)

    def prefill(
        self, tokens: Int[Tensor, "batch length"], *, max_length: int
    ) -> tuple[Float[Tensor, "batch vocabulary"], DecodeState]:
        """Read the prompts, right-padded; logits of each row's next token, and room for `max_length` more."""
        state = self.new_state(tokens.shape[0], tokens.shape[1] + max_length)
        x = self.hidden(tokens, state)
        state.advance((tokens != self.pad_id).sum(dim=1))
        last = (state.positions - 1).clamp(min=0)
        return self.output(x[torch.arange(x.shape[0], device=x.device), last]), state

    def step(self, tokens: Int[Tensor, " batch"], state: DecodeState) -> Float[Tensor, "batch vocabulary"]:
        """Read one more token per row, whatever it is; logits of the next."""
        x = self.hidden(tokens[:, None], state)
        state.advance(1)
        return self.output(x[:, -1])
