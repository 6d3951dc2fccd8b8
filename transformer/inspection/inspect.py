"""Inspects one sentence with a model of any kind: the search, the inner values, and each head's role."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from transformer.config import DecodingConfig
from transformer.data.masking import MASK, MASK_ID
from transformer.data.text import one_line, text_list
from transformer.decoding.alignment import align
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.generator import TextGenerator
from transformer.decoding.predictors import Classifier, Embedder, MaskFiller, Reader
from transformer.decoding.scoring import with_bos
from transformer.decoding.search import evaluation_mode
from transformer.decoding.translator import Translator
from transformer.inspection.data import READ, SOURCE, TARGET, Choice, Findings, Gold, Head, Output
from transformer.inspection.forced import ForcedPass, forced_pass
from transformer.inspection.numbers import class_prediction, norms_of, token_predictions
from transformer.inspection.page import frame
from transformer.inspection.roles import first_choice, heads_of, mean_heads
from transformer.inspection.search_record import SearchRecord
from transformer.inspection.searching import search_line
from transformer.inspection.tokens import SPECIAL_TEXTS, START, Axis, axis_of

MAX_NEW_TOKENS = 40
"""The default limit of a prompt's continuation, in tokens."""


@dataclass(frozen=True)
class Inspection(Findings):
    """The findings about one sentence; a notebook displays them as the page of `transformer inspect`."""

    def _repr_html_(self) -> str:
        return frame(self)


Inspectable = Translator | TextGenerator | MaskFiller | Classifier | Embedder


def inspect(model: Inspectable, line: str, **options: Any) -> Inspection:
    """Record how `model` processes one line: its search, its attention, and the numbers in its layers.

    The options of a `Translator` are `beam_size`, `alpha` and `gold` (the correct translation, if known). The
    options of a `TextGenerator`, whose line is a prompt, are `beam_size`, `alpha` and `max_length` in new
    tokens. The line of a `MaskFiller` contains `<mask>`. Raises `ValueError` for a blank line.
    """
    for kind, inspector in INSPECTORS.items():
        if isinstance(model, kind):
            [line] = text_list([line])
            if not line.strip():
                raise ValueError("the sentence is blank; give one to inspect")
            with torch.no_grad(), evaluation_mode(model.model):
                return inspector(model, line, **options)
    names = ", ".join(kind.__name__ for kind in INSPECTORS)
    raise TypeError(f"a {type(model).__name__} cannot be inspected; give one of {names}")


def mean_over_sentences(
    model: Inspectable,
    lines: Sequence[str],
    *,
    gold: Callable[[str], Gold | None] = lambda line: None,  # noqa: ARG005
    **options: Any,
) -> list[Head]:
    """Average each head's measures over `lines`; `gold` returns a line's correct translation or None."""
    found = []
    for line in lines:
        known = {"gold": gold(line)} if isinstance(model, Translator) else {}
        found.append(inspect(model, line, **known, **options).heads)
    return mean_heads(found)


def inspect_translation(
    translator: Translator,
    line: str,
    *,
    beam_size: int | None = None,
    alpha: float | None = None,
    gold: Gold | None = None,
) -> Inspection:
    """Inspect how the model translates a line, with the same search as `Translator.translate`."""
    model, tokenizer, eos_id = translator.model, translator.tokenizer, translator.config.eos_id
    if isinstance(model, Ensemble):
        raise ValueError("an ensemble cannot be inspected; inspect its members one by one")
    decoding = changed(translator.decoding, beam_size, alpha)
    [source] = translator.encode([line], 1)
    if not source:
        raise ValueError("the tokenizer finds no tokens in this sentence; give another one")
    src_tokens = translator.right_padded([source])

    def log_probs_of(tokens: Sequence[int]) -> list[float]:
        tgt_tokens = translator.right_padded([tokens])
        return chosen(model(src_tokens, with_bos(model, tgt_tokens))[0], tokens)

    paths = {}
    if gold is not None:
        [reference] = translator.encode_targets([gold.reference], 1, "reference")
        paths = {"reference": [*reference, eos_id]}
    limit = translator.limit(source, [])
    search = search_line(model, tokenizer, src_tokens, decoding, limit, log_probs_of, paths)
    output = list(search.winner)
    read = with_bos(model, translator.right_padded([output]))
    found = forced_pass(model, src_tokens, read)
    axes = {
        SOURCE: axis_of(tokenizer, source, "source"),
        TARGET: axis_of(tokenizer, output, "translation"),
        READ: axis_of(
            tokenizer, read[0].tolist(), "read", {**SPECIAL_TEXTS, translator.config.bos_id: START}
        ),
    }
    # the word numbers in `gold` refer to the reference, so they are wrong for any other output
    known = gold if gold is not None and search.finished[0].text == gold.reference else None
    part = searched("translation", model, found, axes, search, known, lambda: sum(log_probs_of(output)))
    words = [token for token in output if token != eos_id]
    return replace(
        part,
        predictions=token_predictions(model, "decoder", found, tokenizer, TARGET, dict(enumerate(output))),
        gold=gold,
        alignment=align(model, tokenizer, [source], [words])[0] if has_cross(found) else [],
    )


def inspect_continuation(
    generator: TextGenerator,
    prompt: str,
    *,
    beam_size: int | None = None,
    alpha: float | None = None,
    max_length: int = MAX_NEW_TOKENS,
) -> Inspection:
    """Inspect the continuation that beam search finds for a prompt."""
    model, tokenizer = generator.model, generator.tokenizer
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}; it must be at least 1")
    decoding = changed(DecodingConfig(), beam_size, alpha)
    ids = generator.prompt_ids(prompt)
    device = device_of(model)

    def read(output: Sequence[int]) -> Tensor:
        return torch.tensor([[*ids, *output[:-1]]], device=device)

    def log_probs_of(output: Sequence[int]) -> list[float]:
        return chosen(model(read(output))[0, len(ids) - 1 :], output)

    tokens = torch.tensor([ids], device=device)
    search = search_line(model, tokenizer, tokens, decoding, max_length, log_probs_of, {})
    output = list(search.winner)
    found = forced_pass(model, read(output)).last_rows(len(output))
    axes = {
        SOURCE: axis_of(tokenizer, ids, "prompt"),
        TARGET: axis_of(tokenizer, output, "continuation"),
        READ: axis_of(tokenizer, [*ids, *output[:-1]], "read"),
    }
    part = searched("continuation", model, found, axes, search, None, lambda: sum(log_probs_of(output)))
    predictions = token_predictions(model, "decoder", found, tokenizer, TARGET, dict(enumerate(output)))
    return replace(part, predictions=predictions)


def inspect_masked(filler: MaskFiller, line: str) -> Inspection:
    """Inspect the most probable token for each `<mask>` of a line."""
    model, tokenizer = filler.model, filler.tokenizer
    ids = filler.read(line, 1).tolist()
    tokens = torch.tensor([ids], device=device_of(model))
    found = forced_pass(model, tokens)
    best = {place: int(found.output[place].argmax()) for place, number in enumerate(ids) if number == MASK_ID}

    def log_prob() -> float:
        log_probs = model(tokens)[0].float().log_softmax(dim=-1)
        return sum(float(log_probs[place, number]) for place, number in best.items())

    axes = {SOURCE: axis_of(tokenizer, ids, "sentence", {**SPECIAL_TEXTS, MASK_ID: MASK})}
    filled = [best.get(place, number) for place, number in enumerate(ids)]
    part = basis("masked", model, found, axes, None, log_prob)
    choice = part.choice and part.choice._replace(word=axes[SOURCE].word_of[min(best)])
    return replace(
        part,
        outputs=[Output(one_line(tokenizer.decode([filled])[0]), log_prob())],
        log_prob=log_prob(),
        predictions=token_predictions(model, "encoder", found, tokenizer, SOURCE, best),
        choice=choice,
    )


def inspect_class(classifier: Classifier, line: str) -> Inspection:
    """Inspect the most probable class of a line."""
    model = classifier.model
    found, axes, tokens = read_sentence(classifier, line)
    best = int(found.output.argmax())

    def log_prob() -> float:
        return float(model(tokens)[0].float().log_softmax(dim=-1)[best])

    names = (classifier.settings.data.classes or "").split(",")
    prediction = class_prediction(model, found, tokens, names)
    return replace(
        basis("classification", model, found, axes, None, log_prob),
        outputs=[Output(prediction.text, prediction.log_prob)],
        log_prob=prediction.log_prob,
        predictions=[prediction],
    )


def inspect_embedding(embedder: Embedder, line: str) -> Inspection:
    """Inspect a sentence vector; a head's cost is 1 minus the cosine of the vectors with and without it."""
    model = embedder.model
    found, axes, tokens = read_sentence(embedder, line)
    vector = model(tokens)[0]
    part = basis("embedding", model, found, axes, None, lambda: float(model(tokens)[0] @ vector))
    note = "No predictions: the model makes a vector. “Without it” shows how the cosine changes."
    return replace(part, missing=[*part.missing, note])


INSPECTORS: dict[type, Callable[..., Inspection]] = {
    Translator: inspect_translation,
    TextGenerator: inspect_continuation,
    MaskFiller: inspect_masked,
    Classifier: inspect_class,
    Embedder: inspect_embedding,
}


def basis(
    task: str,
    model: nn.Module,
    found: ForcedPass,
    axes: dict[str, Axis],
    known: Gold | None,
    log_prob: Callable[[], float],
) -> Inspection:
    """Collect the findings for any kind of model: attention, roles of heads, and norms in the sub-layers."""
    first = first_choice(found.attention, axes, known)
    layers = max((each.layer for each in found.attention), default=0)
    heads = max((len(each.weights) for each in found.attention), default=0)
    return Inspection(
        task=task,
        facts=f"{layers} × {heads} heads · {sum(each.numel() for each in model.parameters()):,} parameters",
        axes=axes,
        outputs=[],
        log_prob=None,
        attention=found.attention,
        heads=heads_of(model, found.attention, axes, known, log_prob),
        predictions=[],
        sublayers=norms_of(found.sublayers, {"encoder": SOURCE, "decoder": TARGET}),
        calls=found.calls,
        choice=None if first is None else Choice(*first),
        missing=found.missing,
    )


def searched(
    task: str,
    model: nn.Module,
    found: ForcedPass,
    axes: dict[str, Axis],
    search: SearchRecord,
    known: Gold | None,
    log_prob: Callable[[], float],
) -> Inspection:
    """Collect the findings of `basis`, together with the search that found the output."""
    part = basis(task, model, found, axes, known, log_prob)
    return replace(
        part,
        facts=f"{part.facts} · beam {search.beam_size} · α {search.alpha:g}",
        outputs=[Output(each.text, each.score) for each in search.finished],
        log_prob=search.finished[0].total,
        search=search,
    )


def read_sentence(reader: Reader, line: str) -> tuple[ForcedPass, dict[str, Axis], Tensor]:
    """Run an encoder over one line and return the forced pass, and the line as an axis and as tokens."""
    ids = reader.encode([line])[0].tolist()
    tokens = torch.tensor([ids], device=device_of(reader.model))
    return forced_pass(reader.model, tokens), {SOURCE: axis_of(reader.tokenizer, ids, "sentence")}, tokens


def changed(decoding: DecodingConfig, beam_size: int | None, alpha: float | None) -> DecodingConfig:
    """Set `beam_size` and `alpha` in `decoding` unless None; raise `ValueError` for a value out of range."""
    given = {"beam_size": beam_size, "alpha": alpha}
    return replace(decoding, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def chosen(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Compute the log-probability of each token from its row of the logits (T, V)."""
    log_probs = logits.float().log_softmax(dim=-1)
    return log_probs[range(len(tokens)), list(tokens)].tolist()


def has_cross(found: ForcedPass) -> bool:
    """Whether the weights of a module called `cross_attention` were recorded; an alignment needs them."""
    return any(each.name.endswith("cross_attention") for each in found.attention)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
