"""The data that the page's script draws, as JSON: axes, weights, terms of equation 1, and the search."""

import base64
import math
import zlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transformer.inspection.data import (
    AXES,
    CROSS,
    DECODER,
    ENCODER,
    READ,
    SOURCE,
    TARGET,
    Attention,
    Findings,
    Head,
)
from transformer.inspection.paper import place
from transformer.inspection.roles import by_words
from transformer.inspection.search_record import Node, SearchRecord
from transformer.inspection.tokens import Axis

KIND_NAMES = {CROSS: "cross-attention", ENCODER: "encoder", DECODER: "decoder"}
ROW_NOTES = {
    CROSS: "Row t is where token t is predicted.",
    DECODER: "Row t is where token t is predicted; columns are the tokens read before it.",
    ENCODER: "Each row is a token of the source, each column a token that it looks at.",
}
PLACES = {"equation": "§3.2.1 equation 1", "residual": "§3.1 residual", "output": "§3.4 one matrix"}
"""The parts of the paper that the page's numbers illustrate; the keys are their names in the script."""
MOST_TERMS = 100_000
"""The largest number of terms of equation 1 that a page keeps. If a sentence has more, the page keeps only
the largest terms of each row, but at least `FEWEST_TERMS` per row."""
FEWEST_TERMS = 5
NOTHING = 65535
"""Stored in place of a term's column index if a mask hides the term."""


def page_data(inspection: Findings) -> dict[str, Any]:
    """Collect everything that the page's script draws."""
    present = {module.kind for module in inspection.attention}
    kinds = {kind: rows_columns for kind, rows_columns in AXES.items() if kind in present}
    gold = inspection.gold if inspection.is_right else None
    axes = inspection.axes
    return {
        "axes": {name: axis_data(axis) for name, axis in axes.items()},
        "readPlaces": read_places(inspection),
        "kinds": kinds,
        "kindNames": KIND_NAMES,
        "rowNotes": ROW_NOTES,
        "rowNames": {CROSS: "predicted", DECODER: "predicted", ENCODER: "looks"},
        "columnNames": {CROSS: "looked at", DECODER: "read before", ENCODER: "looked at"},
        "modules": [module_data(module) for module in inspection.attention],
        "weights": packed(np.concatenate([np.zeros(0, np.uint16), *weights(inspection)])),
        "terms": terms_of(inspection.attention),
        "heads": [head_data(head) for head in inspection.heads],
        "costUnit": "the cosine" if inspection.task == "embedding" else "log p",
        "rolesFrom": inspection.roles_from,
        "choice": inspection.choice and inspection.choice._asdict(),
        "gold": gold
        and [
            (axes[SOURCE].word_at(source), axes[TARGET].word_at(target)) for source, target in gold.alignment
        ],
        "predictions": [
            {
                "text": each.text,
                "logProb": each.log_prob,
                "axis": each.axis,
                "place": each.place,
                "layers": each.by_layer,
                "own": [round(value, 4) for value in each.own],
            }
            for each in inspection.predictions
        ],
        "sublayers": [
            {
                "name": each.name,
                "axis": each.axis,
                **{
                    name: [round(value, 3) for value in getattr(each, name)]
                    for name in ("before", "update", "after")
                },
            }
            for each in inspection.sublayers
        ],
        "places": {
            name: {"paper": place(start).paper, "code": place(start).symbol} for name, start in PLACES.items()
        },
        "search": inspection.search and search_data(inspection.search),
    }


def axis_data(axis: Axis) -> dict[str, Any]:
    return {
        "label": axis.label,
        "pieces": axis.pieces,
        "words": axis.words,
        "wordOf": axis.word_of,
        "spaced": axis.is_spaced,
    }


def read_places(inspection: Findings) -> list[tuple[str, int] | None]:
    """Find where the page shows each token that the decoder reads: an axis, and an index on this axis.

    No axis shows the start token of a translation, so the entry of the start token is None.
    """
    if READ not in inspection.axes:
        return []
    prompt = len(inspection.axes[SOURCE].pieces)
    if inspection.task == "translation":  # the decoder reads BOS and then the output
        return [None, *((TARGET, number) for number in range(len(inspection.axes[READ].pieces) - 1))]
    return [
        (SOURCE, number) if number < prompt else (TARGET, number - prompt)
        for number in range(len(inspection.axes[READ].pieces))
    ]


def module_data(module: Attention) -> dict[str, Any]:
    return {
        "kind": module.kind,
        "layer": module.layer,
        "heads": len(module.weights),
        "keyWidth": module.key_width,
    }


def head_data(head: Head) -> dict[str, Any]:
    aligns = head.measures.get("aligns")
    return {
        "kind": head.kind,
        "layer": head.layer,
        "head": head.head,
        "role": head.role,
        "value": None if head.role == "aligns" else head.measures.get(head.role),
        "aer": None if aligns is None else 1 - aligns,
        "cost": head.cost,
    }


def weights(inspection: Findings) -> list[Any]:
    """Return two arrays of weights in thousandths for each module: one between pieces, one between words.

    The first matrix of an array is the mean over the heads; the matrices of the heads follow.
    """
    found = []
    for module in inspection.attention:
        rows, columns = (inspection.axes[name] for name in AXES[module.kind])
        with_mean = torch.cat((module.weights.mean(dim=0, keepdim=True), module.weights))
        in_words = torch.stack([by_words(each, rows, columns) for each in with_mean])
        found += [thousandths(with_mean), thousandths(in_words)]
    return found


def thousandths(values: Float[Tensor, "heads rows columns"]) -> Any:
    return (1000 * values).round().flatten().numpy().astype(np.uint16)


def terms_of(attention: list[Attention]) -> list[dict[str, Any] | None]:
    """For each row, collect the largest scores with their columns, and log Σ exp of all scores."""
    rows = sum(module.weights.shape[0] * module.weights.shape[1] for module in attention)
    most = max(FEWEST_TERMS, MOST_TERMS // max(rows, 1))
    return [None if module.scores is None else module_terms(module.scores, most) for module in attention]


def module_terms(scores: Float[Tensor, "heads rows columns"], most: int) -> dict[str, Any]:
    largest, columns = scores.topk(min(most, scores.shape[2]), dim=-1)
    is_hidden = largest == -math.inf
    return {
        "kept": columns.shape[2],
        "totals": packed(scores.logsumexp(dim=-1).flatten().numpy()),
        "columns": packed(columns.masked_fill(is_hidden, NOTHING).flatten().numpy().astype(np.uint16)),
        "scores": packed(largest.masked_fill(is_hidden, 0).flatten().numpy()),
    }


def packed(numbers: Any) -> str:
    """Compress numbers, and encode the result in base64.

    All first bytes of the (little-endian) numbers are stored first, then all second bytes, and so on. The
    result is a fifth smaller than with one number stored after another, because adjacent numbers often share
    their high bytes.
    """
    plain = numbers.astype(numbers.dtype.newbyteorder("<"))
    by_byte = plain.view(np.uint8).reshape(-1, plain.itemsize).T.tobytes()
    compressor = zlib.compressobj(6, strategy=zlib.Z_FILTERED)
    return base64.b64encode(compressor.compress(by_byte) + compressor.flush()).decode()


def search_data(search: SearchRecord) -> dict[str, Any]:
    """Convert the record of a search to the form that the script draws."""
    paths = {path.name: path.tokens for path in search.paths}
    before = [Node((), 0, "", 0.0, 0.0, 0)]
    steps = []
    for step in search.steps:
        nodes = [node_data(node, paths, search.winner) for node in step.nodes]
        endings = [
            {
                "lane": ending.lane,
                "what": "end" if ending.is_end else "cut off",
                "parentLane": before[ending.parent].lane,
                "score": ending.score,
                "place": ending.place,
            }
            for ending in step.endings
        ]
        candidates = [
            {
                "parent": each.parent,
                "text": each.text,
                "logProb": each.log_prob,
                "total": each.total,
                "score": each.score,
                "fate": each.fate,
            }
            for each in step.candidates
        ]
        steps.append(
            {
                "penalty": step.penalty,
                "margin": step.margin,
                "runnerUp": step.runner_up,
                "candidates": candidates,
                "nodes": nodes,
                "endings": endings,
            }
        )
        before = step.nodes
    return {
        "beamSize": search.beam_size,
        "alpha": search.alpha,
        "closed": search.closed,
        "isReferenceWinner": paths.get("reference") == search.winner,
        "steps": steps,
        "paths": [
            {
                "name": path.name,
                "text": path.text,
                "tokens": path.pieces,
                "total": sum(path.log_probs),
                "lostAt": path.lost_at,
                "fate": path.fate,
                "isWinner": path.tokens == search.winner,
            }
            for path in search.paths
        ],
    }


def node_data(node: Node, paths: dict[str, tuple[int, ...]], winner: tuple[int, ...]) -> dict[str, Any]:
    """Describe an unfinished hypothesis; `marks` names the paths that begin with it, except the winner."""
    marks = [
        name
        for name, tokens in paths.items()
        if tokens != winner and tokens[: len(node.tokens)] == node.tokens
    ]
    return {
        "parent": node.parent,
        "lane": node.lane,
        "text": node.text,
        "total": node.total,
        "marks": marks,
    }
