"""The encoder: every position attends to the whole sentence (§3.1); also half of an `EncoderDecoder`."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.model.blocks import TransformerBlock
from transformer.model.layers import TokenEmbedding
from transformer.model.masks import check_first_tokens, padding_mask


class EncoderOnly(nn.Module):
    """Tokens to hidden states, right-padded with `pad_id`; what pads compute is never attended to."""

    blocks: Sequence[TransformerBlock]  # an nn.ModuleList, which cannot say so itself

    def __init__(
        self,
        embedding: TokenEmbedding,
        blocks: Iterable[TransformerBlock],
        final_norm: nn.Module,
        *,
        pad_id: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.final_norm = final_norm
        self.pad_id = pad_id

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        check_first_tokens(tokens, self.pad_id)
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        mask = padding_mask(tokens, self.pad_id)
        x = self.embedding(tokens, positions)
        for block in self.blocks:
            x = block(x, positions=positions, mask=mask)
        return self.final_norm(x)
