"""Makes the tables (outputs, alignment, heads) on the page of `transformer inspect`, without JavaScript."""

from collections.abc import Iterable, Sequence
from html import escape

from transformer.inspection.data import SOURCE, TARGET, Findings, Head
from transformer.inspection.tokens import visible


def tables(inspection: Findings) -> str:
    """Make all tables that apply to an inspected sentence."""
    found = []
    if inspection.search is not None:
        found.append(
            table(
                "Best outputs",
                ["output", "log p", "score"],
                [
                    (each.text, f"{each.total:.4f}", f"{each.score:.4f}")
                    for each in inspection.search.finished
                ],
            )
        )
    if inspection.alignment:
        found.append(alignment_table(inspection))
    if inspection.heads:
        found.append(heads_table(inspection.heads, inspection.roles_from))
    return "\n".join(found)


def alignment_table(inspection: Findings) -> str:
    """List the source words that the model aligns with each target word, and the correct words if known."""
    source, target = (inspection.axes[name].text.split(" ") for name in (SOURCE, TARGET))
    right = inspection.gold.alignment if inspection.gold is not None and inspection.is_right else None
    rows = []
    for number, word in enumerate(target):
        ours, theirs = (
            " ".join(source[one] for one, other in pairs or () if other == number and one < len(source))
            for pairs in (inspection.alignment, right)
        )
        if ours or theirs:
            rows.append((word, ours, theirs) if right is not None else (word, ours))
    heads = ["word", "aligned with"] + (["right"] if right is not None else [])
    return table("Alignment, by the cross-attention of the last two layers", heads, rows)


def heads_table(heads: Sequence[Head], measured_on: str) -> str:
    rows = [
        (head.kind, head.name, head.role, measure_text(head), f"{-head.cost:+.3f}")
        for head in sorted(heads, key=lambda head: -head.cost)
    ]
    columns = ["attention", "layer.head", "role", "measures", "change of log p without it"]
    return table(f"Heads, the most needed first, measured on {measured_on}", columns, rows)


def measure_text(head: Head) -> str:
    """List all measures of one head."""
    return ", ".join(f"{name} {value:.2f}" for name, value in head.measures.items())


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        "<tr>" + "".join(f"<td><bdi>{escape(visible(cell))}</bdi></td>" for cell in row) + "</tr>"
        for row in rows
    )
    name = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table><caption>{name}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
