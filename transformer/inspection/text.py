"""An inspected sentence as text: a short summary, or the paper's equations with the sentence's numbers."""

import math
from collections.abc import Iterator

from transformer.decoding.length_penalty import length_penalty
from transformer.inspection.data import (
    ABOUT_ATTENTION,
    AXES,
    CROSS,
    SOURCE,
    TARGET,
    Choice,
    Findings,
    Head,
    Prediction,
)
from transformer.inspection.paper import Place, place
from transformer.inspection.roles import by_words
from transformer.inspection.tables import measure_text
from transformer.inspection.tokens import visible

HEADS_SHOWN = 5
COLUMNS = ("attention", "layer", "head", "role", "without", "measures")
"""The columns of `head_rows`."""


def summary(inspection: Findings) -> str:
    """Summarise an inspection in a few lines.

    The lines show the sentence, the output, the attention from one word in one head (the word and the head
    that the HTML page shows first), and the most important heads.
    """
    lines = [axis.text for name, axis in inspection.axes.items() if name in (SOURCE, TARGET)]
    if inspection.task in ("masked", "classification"):
        lines.append(visible(inspection.outputs[0].text))
    if inspection.gold is not None:
        wrong = f"wrong; the translation by toyland's grammar: {inspection.gold.reference}"
        lines.append("correct: equals the translation by toyland's grammar" if inspection.is_right else wrong)
    if inspection.log_prob is not None:
        lines.append(f"log-probability {inspection.log_prob:.4f}")
    if inspection.choice is not None:
        lines += ["", choice_text(inspection, inspection.choice), ABOUT_ATTENTION]
    if inspection.heads:
        lines += ["", "the heads whose removal changes the log-probability most:"]
        most = sorted(inspection.heads, key=lambda head: -abs(head.cost))[:HEADS_SHOWN]
        lines += [head_text(head) for head in most]
    return "\n".join([*lines, *inspection.missing])


def choice_text(inspection: Findings, choice: Choice) -> str:
    """Name the word that gets the largest weight from the chosen word in the chosen head."""
    rows, columns = (inspection.axes[name] for name in AXES[choice.kind])
    weights = inspection.module(choice.kind, choice.layer).weights[choice.head - 1]
    words = by_words(weights, rows, columns)[choice.word]
    best = int(words.argmax())
    verb = "predicting" if AXES[choice.kind][0] == TARGET else "at"
    of_what = "" if choice.kind == CROSS else f" of the {choice.kind}"
    return (
        f"{verb} {rows.words[choice.word]}, head {choice.layer}.{choice.head}{of_what} looks at "
        f"{columns.words[best]}: {float(words[best]):.3f}"
    )


def head_text(head: Head) -> str:
    value = head.measures.get(head.role)
    size = "" if value is None else f" {value:.2f}"
    return f"  {head.kind:8} {head.name:5} {-head.cost:+7.2f}  {head.role}{size}"


def head_rows(heads: list[Head]) -> Iterator[tuple[str, ...]]:
    """Yield one row for each head, with the columns that `COLUMNS` names."""
    for head in heads:
        cost = f"{-head.cost:.4f}"
        yield head.kind, str(head.layer), str(head.head), head.role, cost, measure_text(head)


def explain(inspection: Findings, word: int | None = None) -> str:
    """List the paper's equations in the order in which the model computes them.

    Each equation comes with the name of its code, its shapes and this sentence's numbers. `word` is the index
    of a predicted word, from 0; the default is the word that the HTML page shows first.
    """
    choice = inspection.choice
    if choice is not None and word is not None:
        choice = strongest_head(inspection, choice, word)
    prediction = predicted(inspection, choice)
    parts = [
        *embedding(inspection),
        *attention(inspection, choice),
        *sublayers(inspection, choice, prediction),
        *output(inspection, prediction),
        *search(inspection),
    ]
    lines = [axis.text for name, axis in inspection.axes.items() if name in (SOURCE, TARGET)]
    if choice is not None:
        lines.append(choice_text(inspection, choice))
    for where, what in parts:
        lines += ["", f"{where.paper}    {where.symbol}", *(f"    {line}" for line in what)]
    return "\n".join(lines)


def strongest_head(inspection: Findings, choice: Choice, word: int) -> Choice:
    """Choose the head whose attention from `word` has the largest weight on a single word.

    Only the heads in the last layer that has attention of `choice.kind` are compared.
    """
    rows, columns = (inspection.axes[name] for name in AXES[choice.kind])
    if not 0 <= word < len(rows.words):
        raise ValueError(f"there is no word {word + 1}; the {rows.label} has {len(rows.words)}")
    layer = max(each.layer for each in inspection.attention if each.kind == choice.kind)
    weights = inspection.module(choice.kind, layer).weights
    peaks = [float(by_words(head, rows, columns)[word].max()) for head in weights]
    return Choice(choice.kind, word, layer, peaks.index(max(peaks)) + 1)


def predicted(inspection: Findings, choice: Choice | None) -> Prediction | None:
    """Return the prediction of the chosen word's first piece, or the first prediction if there is none."""
    if choice is not None:
        axis = AXES[choice.kind][0]
        words = inspection.axes[axis].word_of
        for each in inspection.predictions:
            if each.axis == axis and words[each.place] == choice.word:
                return each
    return next(iter(inspection.predictions), None)


Section = tuple[Place, list[str]]


def shapes(inspection: Findings, *kinds: str) -> list[str]:
    """Make a line such as `name: (1, 15) -> (1, 15, 128)` for each module whose class is one of `kinds`.

    If several blocks of a stack have such a module, only the last block's module is shown.
    """
    found: dict[str, str] = {}
    for name, call in inspection.calls.items():
        if call.kind in kinds:
            stack = name.split(".blocks.")[0] + name.rsplit(".", 1)[-1]
            found[stack] = f"{name or 'model'}: {call.inputs} -> {call.output}"
    return list(found.values())


def embedding(inspection: Findings) -> Iterator[Section]:
    found = shapes(inspection, "TokenEmbedding")
    if found:
        width = next(call.output[-1] for call in inspection.calls.values() if call.kind == "TokenEmbedding")
        yield (
            place("§3.4 embeddings"),
            [*found, f"each embedding times √{width} = {math.sqrt(width):.4f}"],
        )
    if positions := shapes(inspection, "SinusoidalEncoding", "LearnedEncoding"):
        yield place("§3.5"), positions
    if stacks := shapes(inspection, "Encoder", "EncoderOnly", "Decoder"):
        yield place("§3.1 encoder"), stacks


def attention(inspection: Findings, choice: Choice | None) -> Iterator[Section]:
    if choice is None:
        return
    module = inspection.module(choice.kind, choice.layer)
    call = inspection.calls[module.name]
    heads, queries, keys = module.weights.shape
    yield (
        place("§3.2.2"),
        [
            f"{module.name}: {call.inputs} -> {call.output}",
            f"{heads} heads: Q ({heads}, {queries}, {module.key_width}), "
            f"K ({heads}, {keys}, {module.key_width}) -> weights ({heads}, {queries}, {keys})",
        ],
    )
    yield place("§3.2.1 equation 1"), cell_lines(inspection, choice)


def cell_lines(inspection: Findings, choice: Choice) -> list[str]:
    """Compute one attention weight by equation 1, term by term.

    The weight is the largest weight of the chosen head in the chosen word's rows.
    """
    rows, columns = (inspection.axes[name] for name in AXES[choice.kind])
    module = inspection.module(choice.kind, choice.layer)
    if module.scores is None:
        return ["this module computes its weights by a formula of its own, not by equation 1"]
    weights, scores = module.weights[choice.head - 1], module.scores[choice.head - 1]
    pieces = [row for row, number in enumerate(rows.word_of) if number == choice.word]
    row = max(pieces, key=lambda each: float(weights[each].max()))
    column = int(weights[row].argmax())
    score, total = float(scores[row, column]), float(scores[row].logsumexp(dim=0))
    width = module.key_width
    order = weights[row].argsort(descending=True)[:3].tolist()
    others = ", ".join(f"{columns.pieces[each]} {float(weights[row, each]):.3f}" for each in order)
    return [
        f"head {choice.layer}.{choice.head}, from {rows.pieces[row]} to {columns.pieces[column]}:",
        f"q · k = {score * math.sqrt(width):.3f}",
        f"q · k / √{width} = {score:.3f}",
        f"exp({score:.3f}) / Σ exp = exp({score:.3f} - {total:.3f}) = {math.exp(score - total):.3f}",
        f"largest weights of the row: {others}; the whole row sums to {float(weights[row].sum()):.3f}",
    ]


def sublayers(
    inspection: Findings, choice: Choice | None, prediction: Prediction | None
) -> Iterator[Section]:
    if found := shapes(inspection, "FeedForward"):
        inner = {
            call.output[-1] for name, call in inspection.calls.items() if name.endswith("feed_forward.w_1")
        }
        yield (
            place("§3.3"),
            [*found, *(f"the inner layer has {size} numbers" for size in inner)],
        )
    axis, piece = SOURCE, 0
    if prediction is not None and prediction.axis is not None:
        axis, piece = prediction.axis, prediction.place
    elif choice is not None:
        piece = inspection.axes[SOURCE].word_of.index(choice.word)
    rows = [
        f"{each.name:30} {each.before[piece]:7.2f} {each.update[piece]:13.2f} {each.after[piece]:9.2f}"
        for each in inspection.sublayers
        if each.axis == axis
    ]
    if rows:
        where = inspection.axes[axis].pieces[piece]
        yield (
            place("§3.1 residual"),
            [f"lengths of the vectors at {where}:", f"{'':30}     |x| |Sublayer(x)|  |output|", *rows],
        )


def output(inspection: Findings, prediction: Prediction | None) -> Iterator[Section]:
    lines = shapes(inspection, "Linear", "PackedLinear")[-1:]
    if prediction is None:
        return
    for number, guesses in enumerate(prediction.by_layer, start=1):
        who = "the model" if number == len(prediction.by_layer) else f"after layer {number}"
        told = ", ".join(f"{each.text} {100 * each.probability:.1f} %" for each in guesses[:3])
        lines.append(f"{who}: {told}")
    lines.append(f"log p({prediction.text}) = {prediction.log_prob:.4f}")
    yield place("§3.4 one matrix"), lines


def search(inspection: Findings) -> Iterator[Section]:
    record = inspection.search
    if record is None:
        return
    lines = [f"beam of {record.beam_size}; the search ended after {len(record.steps)} steps: {record.closed}"]
    for path in record.paths:
        if path.tokens == record.winner:
            lines.append(f"{path.name}: the winner")
        elif path.lost_at is not None:
            lines.append(f"{path.name}: lost in step {path.lost_at}: {path.fate}")
    yield place("§6.1 beam search"), lines
    best = record.finished[0]
    penalty = length_penalty(len(best.tokens), record.alpha)
    yield (
        place("§6.1 length penalty"),
        [
            f"((5 + {len(best.tokens)}) / 6) ** {record.alpha:g} = {penalty:.4f}",
            f"score {best.total:.4f} / {penalty:.4f} = {best.score:.4f}",
        ],
    )
