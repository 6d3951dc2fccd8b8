"""The role of each head: which words it attends to, and how much the output depends on it."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transformer.decoding.alignment import alignment_error_rate, best_words
from transformer.inspection.data import AXES, CROSS, DECODER, ENCODER, Attention, Gold, Head
from transformer.inspection.tokens import Axis
from transformer.model.attention import MultiHeadAttention
from transformer.model.recording import without_head

NAMED_FROM = 0.5
"""A head's role is named after its largest measure if that measure is at least this large."""
BROAD_FROM = 0.75
"""A head is broad if its mean entropy is at least this share of the entropy of equal weights."""


def by_words(
    weights: Float[Tensor, "rows columns"], rows: Axis, columns: Axis
) -> Float[Tensor, "row_words column_words"]:
    """Combine weights by words: sum over the pieces of a key word, mean over the pieces of a query word."""
    summed = torch.zeros(len(weights), len(columns.words)).index_add_(
        1, torch.tensor(columns.word_of), weights
    )
    counts = torch.bincount(torch.tensor(rows.word_of), minlength=len(rows.words))
    total = torch.zeros(len(rows.words), summed.shape[1]).index_add_(0, torch.tensor(rows.word_of), summed)
    return total / counts[:, None]


def measures(
    kind: str, weights: Float[Tensor, "rows columns"], rows: Axis, columns: Axis, gold: Gold | None
) -> dict[str, float]:
    """Measure, from 0 to 1, how well the head fits each role that this kind of attention can have."""
    words = by_words(weights, rows, columns)
    found = {"broad": breadth(weights)}
    if kind == CROSS:
        found["end"] = mean(words[:, -1])
        found |= measures_by_gold(weights, words, rows, columns, gold)
        return found
    # in a decoder, row t predicts word t and column t holds word t - 1, which the decoder has just read
    shift = int(kind == DECODER)
    found["previous word"] = diagonal(words, shift - 1)
    if kind == ENCODER:
        found |= {"itself": diagonal(words, 0), "next word": diagonal(words, 1), "end": mean(words[:, -1])}
    else:
        found["start"] = mean(words[1:, 0])
    return found


def measures_by_gold(
    weights: Float[Tensor, "rows columns"],
    words: Float[Tensor, "row_words column_words"],
    rows: Axis,
    columns: Axis,
    gold: Gold | None,
) -> dict[str, float]:
    """Measure how closely a cross-attention head matches the word alignment and word pairs in `gold`.

    The pairs are pronouns with their nouns, and particles with their verbs. The result is empty if `gold` is
    None.
    """
    if gold is None:
        return {}
    found = {}
    if gold.alignment:
        source, target = columns.spaced_word_of[:-1], rows.spaced_word_of[:-1]  # without ⟨end⟩
        ours = best_words(weights[: len(target), : len(source)], source, target)
        found["aligns"] = 1 - alignment_error_rate([ours], [gold.alignment])
    for name, pairs in (("pronoun → noun", gold.pronouns), ("particle → verb", gold.particles)):
        if pairs:
            found[name] = fmean(
                float(words[rows.word_at(target), columns.word_at(source)]) for source, target in pairs
            )
    return found


def diagonal(words: Float[Tensor, "rows columns"], offset: int) -> float:
    """Average the entries (i, i + `offset`): the weight that word i gives to word i + `offset`."""
    return mean(words.diagonal(offset))


def mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0


def breadth(weights: Float[Tensor, "rows columns"]) -> float:
    """Average the rows' entropies, each divided by the entropy of equal weights on all visible keys."""
    visible = (weights > 0).sum(dim=1)
    entropies = -(weights * weights.clamp(min=1e-30).log()).sum(dim=1)
    has_choice = visible > 1
    return mean(entropies[has_choice] / visible[has_choice].log())


def role_of(found: dict[str, float]) -> str:
    """Return the name of the largest measure if it is large enough, else "broad" or "mixed"."""
    candidates = {name: value for name, value in found.items() if name != "broad"}
    best = max(candidates, key=lambda name: candidates[name], default="")
    if best and candidates[best] >= NAMED_FROM:
        return best
    return "broad" if found.get("broad", 0.0) >= BROAD_FROM else "mixed"


def costs(model: nn.Module, attention: Attention, log_prob: Callable[[], float]) -> list[float]:
    """Measure by how much `log_prob()` falls when each head of an attention module is removed."""
    module = model.get_submodule(attention.name)
    assert isinstance(module, MultiHeadAttention)
    whole, found = log_prob(), []
    for head in range(len(attention.weights)):
        with without_head(module, head):
            found.append(whole - log_prob())
    return found


def heads_of(
    model: nn.Module,
    attention: Sequence[Attention],
    axes: dict[str, Axis],
    gold: Gold | None,
    log_prob: Callable[[], float],
) -> list[Head]:
    """Determine the measures, role and cost of every head for one sentence."""
    found = []
    for module in attention:
        rows, columns = (axes[name] for name in AXES[module.kind])
        lost = costs(model, module, log_prob)
        for number, (weights, cost) in enumerate(zip(module.weights, lost, strict=True), start=1):
            values = measures(module.kind, weights, rows, columns, gold)
            found.append(Head(module.kind, module.layer, number, role_of(values), values, cost))
    return found


def mean_heads(sentences: Iterable[Sequence[Head]]) -> list[Head]:
    """Average each head's measures and cost over the sentences.

    Not every sentence has every measure; a measure is averaged over the sentences that have it.
    """
    found = []
    for same in zip(*sentences, strict=True):
        names = dict.fromkeys(name for head in same for name in head.measures)
        values = {
            name: fmean(head.measures[name] for head in same if name in head.measures) for name in names
        }
        first = same[0]
        cost = fmean(head.cost for head in same)
        found.append(Head(first.kind, first.layer, first.head, role_of(values), values, cost))
    return found


def first_choice(
    attention: Sequence[Attention], axes: dict[str, Axis], gold: Gold | None
) -> tuple[str, int, int, int] | None:
    """Choose the word and head that a reader should see first, as (kind, word, layer, head).

    If `gold` lists a pronoun in the translation, the word is this pronoun, and the head is the one with the
    largest weight from the pronoun to its noun. Otherwise, the word and the head are chosen in the last
    layer: the word at which the mean attention of the heads jumps furthest (`furthest_jump`), and the head
    with the largest weight from this word to a single word.
    """
    kinds = [kind for kind in (CROSS, DECODER, ENCODER) if any(module.kind == kind for module in attention)]
    if not kinds:
        return None
    kind = kinds[0]
    rows, columns = (axes[name] for name in AXES[kind])
    heads = {
        (module.layer, number): by_words(weights, rows, columns)
        for module in attention
        if module.kind == kind
        for number, weights in enumerate(module.weights, start=1)
    }
    if kind == CROSS and gold is not None and gold.pronouns:
        source, target = gold.pronouns[0]
        noun, word = columns.word_at(source), rows.word_at(target)
        layer, head = max(heads, key=lambda each: float(heads[each][word, noun]))
        return kind, word, layer, head
    last = max(layer for layer, _ in heads)
    of_last = {each: words for each, words in heads.items() if each[0] == last}
    word = furthest_jump(torch.stack(list(of_last.values())).mean(dim=0))
    inner = slice(1, None) if kind == DECODER else slice(None, -1)  # without ⟨start⟩ or ⟨end⟩
    layer, head = max(of_last, key=lambda each: max(of_last[each][word, inner].tolist(), default=0.0))
    return kind, word, layer, head


def furthest_jump(words: Float[Tensor, "rows columns"]) -> int:
    """Return the row whose largest weight is the most columns away from the previous row's largest weight."""
    best = words.argmax(dim=1)
    jumps = (best[1:-1] - best[:-2]).abs()  # without the last row, ⟨end⟩
    return int(jumps.argmax()) + 1 if jumps.numel() else 0
