"""The numbers of a forced pass: the predictions of each layer, and the lengths of the vectors."""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from transformer.data.tokenizers.protocol import Tokenizer
from transformer.inspection.data import Guess, Prediction, SublayerNorms
from transformer.inspection.forced import ForcedPass, by_layer
from transformer.inspection.tokens import Texts
from transformer.model.heads import mean_over_tokens
from transformer.model.recording import Sublayer

GUESSES = 5
"""The number of guesses kept for each layer."""


def token_predictions(
    model: nn.Module,
    stack: str,
    found: ForcedPass,
    tokenizer: Tokenizer,
    axis: str,
    tokens: Mapping[int, int],
) -> list[Prediction]:
    """Collect the predictions of some tokens; `tokens` maps each token's index on the axis to its id."""
    texts = Texts(tokenizer)
    layers = predicted_by_layer(model, stack, found, lambda hidden: hidden)
    return [
        prediction(
            [layer[place] for layer in layers],
            token,
            texts.token,
            axis,
            place,
        )
        for place, token in tokens.items()
    ]


def class_prediction(model: nn.Module, found: ForcedPass, tokens: Tensor, names: Sequence[str]) -> Prediction:
    """Collect the predictions of a sentence's class; a layer's guesses use the mean of its hidden states."""
    pad_id: int = model.encoder.pad_id  # type: ignore[union-attr, assignment]
    layers = predicted_by_layer(
        model, "encoder", found, lambda hidden: mean_over_tokens(hidden, tokens, pad_id)
    )
    return prediction(layers, int(found.output.argmax()), lambda number: names[number], None, 0)


def predicted_by_layer(
    model: nn.Module, stack: str, found: ForcedPass, pool: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Compute probabilities by applying the final norm and the output matrix to each layer's hidden states.

    The last entry is the model's own output distribution, which is the only entry if the stack has no
    `final_norm`, or if `model.output` is not a module.
    """
    own = found.output.softmax(dim=-1)
    final_norm = getattr(getattr(model, stack, None), "final_norm", None)
    if final_norm is None or not isinstance(model.output, nn.Module):
        return [own]
    layers = by_layer(found.sublayers, stack, lambda hidden: model.output(pool(final_norm(hidden))))  # type: ignore[operator]
    return [*layers[:-1], own]


def prediction(
    layers: Sequence[Tensor], number: int, text_of: Callable[[int], str], axis: str | None, place: int
) -> Prediction:
    guesses = []
    for layer in layers:
        best = layer.topk(min(GUESSES, len(layer)))
        guesses.append(
            [
                Guess(text_of(each), probability)
                for each, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
        )
    own = [float(layer[number]) for layer in layers]
    log_prob = float(layers[-1][number].log())
    return Prediction(text_of(number), log_prob, axis, place, guesses, own)


def norms_of(sublayers: Mapping[str, Sublayer], axes: Mapping[str, str]) -> list[SublayerNorms]:
    """Compute the norms of the input, update and output of each sub-layer, at each position.

    `axes` maps each stack (encoder or decoder) to the axis of its positions; other stacks are left out.
    """
    found = []
    for name, sublayer in sublayers.items():
        match = re.search(r"(encoder|decoder)\.blocks\.(\d+)\.around_(\w+)$", name) or re.search(
            r"()\bblocks\.(\d+)\.around_(\w+)$", name
        )
        if match is None or (match[1] or "encoder") not in axes:
            continue
        stack = match[1] or "encoder"
        lengths = [part[0].float().norm(dim=-1).tolist() for part in sublayer]
        label = f"{stack} {int(match[2]) + 1}, {match[3].replace('_', '-')}"
        found.append(SublayerNorms(label, axes[stack], *lengths))
    return found
