"""The encoder stack (§3.1, the left half of figure 1): every position attends to the whole sentence."""

from collections.abc import Iterable, Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from transformer.model.blocks import TransformerBlock
from transformer.model.layers import TokenEmbedding
from transformer.model.masks import bidirectional_context
from transformer.model.padding import check_first_tokens


class Encoder(nn.Module):
    """Maps tokens to hidden states. Rows are right-padded with `pad_id`; no position attends to padding."""

    blocks: Sequence[TransformerBlock]  # an nn.ModuleList, whose type does not name its elements

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
        context = bidirectional_context(tokens, self.pad_id)
        x = self.embedding(tokens, context.positions)
        for block in self.blocks:
            x = block(x, context)
        return self.final_norm(x)
