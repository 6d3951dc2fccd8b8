"""Word alignment of source and translation, from the decoder's cross-attention.

Words are separated by spaces. Each target word is aligned with the source word that gets the most attention
from the target word's tokens, averaged over the heads of the last decoder layers.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transformer.data.token_budget import longest_first
from transformer.data.tokenizers.pair import PairTokenizer
from transformer.data.tokenizers.protocol import EOS_ID, Tokenizer
from transformer.decoding.inference import padded_rows
from transformer.decoding.scoring import pair_lengths, with_bos
from transformer.hardware import without_cudnn_attention
from transformer.model.recording import record_attention

Alignment = list[tuple[int, int]]
"""Sorted pairs of a source word and a target word, both numbered from 0."""


def pharaoh(alignment: Alignment) -> str:
    """Write an alignment as `0-0 1-2`, the format that alignment tools read."""
    return " ".join(f"{source}-{target}" for source, target in alignment)


@torch.no_grad()
@without_cudnn_attention()
def align(
    model: nn.Module,
    tokenizer: Tokenizer,
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
    *,
    layers: int = 2,
    batch_tokens: int = 4096,
) -> list[Alignment]:
    """Align the words of each pair; `sources` end with EOS, `targets` have neither BOS nor EOS.

    The attention of the last `layers` decoder layers is used; `benchmarks/alignment.py` compares values of
    `layers`.
    """
    source_side = tokenizer.source if isinstance(tokenizer, PairTokenizer) else tokenizer
    alignments: list[Alignment] = [[]] * len(sources)
    for batch in longest_first(pair_lengths(sources, targets), batch_tokens):
        rows = [row for row in batch if sources[row]]  # leave out blank lines
        if not rows:
            continue
        src_tokens = padded_rows(model, [sources[row] for row in rows])
        tgt_tokens = padded_rows(model, [[*targets[row], EOS_ID] for row in rows])
        attention = cross_attention(model, src_tokens, tgt_tokens)[-layers:].mean(dim=(0, 2)).float().cpu()
        for row, weights in zip(rows, attention, strict=True):
            source = words_of(source_side, sources[row][:-1])
            target = words_of(tokenizer, targets[row])
            alignments[row] = best_words(weights[: len(target), : len(source)], source, target)
    return alignments


def cross_attention(
    model: nn.Module, src_tokens: Tensor, tgt_tokens: Tensor
) -> Float[Tensor, "layers batch heads target source"]:
    """Each decoder layer's cross-attention at the position that predicts each target token."""
    with record_attention(model) as recorded:
        model(src_tokens, with_bos(model, tgt_tokens))
    found = [weights for name, weights in recorded.items() if name.endswith("cross_attention")]
    if not found:
        raise ValueError("the model has no module called cross_attention to read an alignment from")
    return torch.stack(found)


def words_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """For each token, the number of the word that it belongs to, counted from 0."""
    texts = tokenizer.decode([ids[: end + 1] for end in range(len(ids))])
    return [max(0, sum(map(bool, text.split(" "))) - 1) for text in texts]


def best_words(
    weights: Float[Tensor, "target source"], source: Sequence[int], target: Sequence[int]
) -> Alignment:
    """For each target word, the source word that gets the most attention."""
    if not source or not target:
        return []
    by_word = torch.zeros(max(target) + 1, max(source) + 1)
    for row, word in zip(weights, target, strict=True):
        by_word[word].index_add_(0, torch.tensor(source), row)
    return sorted((int(best), word) for word, best in enumerate(by_word.argmax(dim=1).tolist()))


def alignment_error_rate(found: Sequence[Alignment], gold: Sequence[Alignment]) -> float:
    """The alignment error rate of Och and Ney (2003) over all sentences; 0 is perfect.

    The rate is 1 - 2 |A ∩ G| / (|A| + |G|), where A is the set of links found and G is the set of gold
    (correct) links. All gold links count as sure.
    """
    common = sum(len(set(ours) & set(right)) for ours, right in zip(found, gold, strict=True))
    return 1 - 2 * common / (sum(map(len, found)) + sum(map(len, gold)))
