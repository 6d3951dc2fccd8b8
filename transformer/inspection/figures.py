"""Pictures of an inspected sentence for papers and notebooks: attention and beam search.

Each `draw_…` function draws on the given matplotlib axes and returns the axes.
"""

from typing import Any

from transformer.inspection.data import AXES, CROSS, DECODER, ENCODER, Choice, Findings
from transformer.inspection.roles import by_words
from transformer.inspection.search_record import Ending, Path, SearchRecord
from transformer.inspection.tokens import START
from transformer.pictures import label_columns, label_rows, plain_text, show_legend

ATTENTION_NAMES = {
    CROSS: "cross-attention",
    ENCODER: "self-attention of the encoder",
    DECODER: "self-attention of the decoder",
}
WINNER, OTHER = "tab:blue", "0.6"
PATHS = {"greedy": ("tab:orange", "--"), "reference": ("tab:green", ":")}
"""The colour and line style of each output that is drawn for comparison with the beam search."""


def head_named(inspection: Findings, name: str | None) -> Choice:
    """Find the head with this name (KIND.LAYER.HEAD), or the most informative head if `name` is None.

    Raises `ValueError` if there is no such head.
    """
    heads = {
        f"{module.kind}.{module.layer}.{head}": Choice(module.kind, 0, module.layer, head)
        for module in inspection.attention
        for head in range(1, len(module.weights) + 1)
    }
    if name is None and inspection.choice is not None:
        return inspection.choice
    if not heads:
        raise ValueError(f"no attention could be recorded: {' '.join(inspection.missing)}")
    if name not in heads:
        names = [*heads]
        raise ValueError(f"--head is {name}; the heads of this model are {names[0]} to {names[-1]}")
    return heads[name]


def attention_size(inspection: Findings, kind: str) -> tuple[float, float]:
    """Return the width and height in inches at which the words of `draw_attention` are readable."""
    rows, columns = (inspection.axes[name].words for name in AXES[kind])
    return 1.6 + 0.3 * len(columns), 1.6 + 0.3 * len(rows)


def search_size(record: SearchRecord) -> tuple[float, float]:
    """Return the width and height in inches at which the words of `draw_search` are readable."""
    return 1.5 + 0.95 * len(record.steps), 1.0 + 0.6 * (1 + lowest_lane(record))


def draw_attention(inspection: Findings, axes: Any, *, kind: str, layer: int, head: int) -> Any:
    """Draw the weights between words of one head, like the paper's Figures 3 to 5.

    Layer and head are counted from 1. In cross-attention and in the decoder, row t is the position at which
    word t is predicted. If the output is the correct translation of a toyland sentence, the true word
    alignment is outlined in cross-attention.
    """
    rows, columns = (inspection.axes[name] for name in AXES[kind])
    weights = by_words(inspection.module(kind, layer).weights[head - 1], rows, columns)
    axes.imshow(weights.numpy(), cmap="Blues", vmin=0, vmax=1)
    label_rows(axes, rows.words)
    label_columns(axes, columns.words)
    axes.tick_params(length=0)
    axes.set_title(f"{ATTENTION_NAMES[kind]}, head {layer}.{head}", fontsize=10)
    for row, column in (weights >= 0.1).nonzero().tolist():
        value = float(weights[row, column])
        color = "white" if value > 0.6 else "black"
        text = f"{value:.2f}".removeprefix("0")
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    if kind == CROSS and inspection.gold is not None and inspection.is_right:
        for source, target in inspection.gold.alignment:
            outline(axes, rows.word_at(target), columns.word_at(source))
    return axes


def outline(axes: Any, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.45, row - 0.45)
    axes.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor="tab:orange", linestyle="--"))


def draw_search(record: SearchRecord, axes: Any) -> Any:
    """Draw the beam step by step, from left to right, with each hypothesis in a horizontal lane.

    The winner is in the top lane, and complete hypotheses are squares with their scores. The number below a
    token is the sum of its hypothesis's log-probabilities up to that token. The output of greedy search and
    the reference are drawn as lines. A line ends at the step, if any, that drops the output.
    """
    for number, step in enumerate(record.steps, start=1):
        for node in step.nodes:
            is_winner = node.tokens == record.winner[: len(node.tokens)]
            draw_edge(axes, record, number, node.parent, node.lane, is_winner)
            write(axes, number, node.lane, node.text, weight=weight(is_winner))
            write(axes, number, node.lane + 0.27, figure_text(node.total), fontsize=6, color="0.4")
        for ending in step.endings:
            draw_ending(axes, record, number, ending)
    for path in record.paths:
        if path.tokens != record.winner:
            draw_path(axes, record, path)
    write(axes, 0, 0, START, weight="bold")
    axes.set_xlim(-0.5, len(record.steps) + 0.7)
    axes.set_ylim(lowest_lane(record) + 0.7, -0.7)
    axes.set_xticks(range(1, len(record.steps) + 1))
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.set_xlabel("step")
    title = f"beam {record.beam_size}, α {record.alpha}; closed: {record.closed}"
    axes.set_title(title, fontsize=10)
    show_legend(axes)
    return axes


def lowest_lane(record: SearchRecord) -> int:
    nodes = [node.lane for step in record.steps for node in step.nodes]
    return max(nodes + [ending.lane for step in record.steps for ending in step.endings])


def lane_before(record: SearchRecord, step: int, parent: int) -> int:
    """Return the lane of hypothesis `parent` in the step before `step`; steps are counted from 1."""
    return record.steps[step - 2].nodes[parent].lane if step > 1 else 0


def write(axes: Any, step: int, lane: float, text: str, **options: Any) -> None:
    """Write `text` in the middle of a lane, on a white background that interrupts the lines."""
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    options = {"fontsize": 8, "ha": "center", "va": "center", "bbox": background, **plain_text(), **options}
    axes.text(step, lane, text, **options)


def weight(is_winner: bool) -> str:
    return "bold" if is_winner else "normal"


def figure_text(value: float) -> str:
    """Format the value with two decimals and a typographic minus sign; -0.00 becomes 0.00."""
    return f"{value:z.2f}".replace("-", "−")


def draw_edge(axes: Any, record: SearchRecord, step: int, parent: int, lane: float, is_winner: bool) -> None:
    lanes = [lane_before(record, step, parent), lane]
    color, width = (WINNER, 2.5) if is_winner else (OTHER, 1)
    axes.plot([step - 1, step], lanes, color=color, linewidth=width, zorder=1)


def draw_ending(axes: Any, record: SearchRecord, step: int, ending: Ending) -> None:
    """Draw a complete hypothesis in its lane, or above the lane if another hypothesis continues there."""
    is_winner = ending.place == 0
    is_shared = any(node.lane == ending.lane for node in record.steps[step - 1].nodes)
    lane = ending.lane - (0.35 if is_shared else 0)
    draw_edge(axes, record, step, ending.parent, lane, is_winner)
    text = f"{'★' if is_winner else '■'} {figure_text(ending.score)}"
    write(axes, step, lane, text, weight=weight(is_winner))


def draw_path(axes: Any, record: SearchRecord, path: Path) -> None:
    """Draw an output that the search is compared with; a ✗ marks the step that dropped it, if any."""
    color, style = PATHS[path.name]
    lanes = [0.0]
    for number, step in enumerate(record.steps[: len(path.tokens)], start=1):
        kept = [node.lane for node in step.nodes if node.tokens == path.tokens[:number]]
        if not kept:
            break
        lanes += kept
    places = [lane + 0.12 for lane in lanes]  # next to the line of the search
    axes.plot(range(len(places)), places, style, color=color, zorder=2, label=f"{path.name}: {path.text}")
    if path.lost_at is not None:
        text = f"✗ {path.pieces[path.lost_at - 1]}"
        axes.text(len(lanes) - 0.6, lanes[-1] + 0.5, text, fontsize=8, color=color, **plain_text())
