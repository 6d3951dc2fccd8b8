"""Makes the page of `transformer inspect`: one self-contained HTML file, which can be opened anywhere.

The page's HTML, CSS and JavaScript are files in `page_files/`. The text of the sentence is inserted only as
JSON or as escaped HTML, and a content security policy allows only the script with a given hash to run.
"""

import base64
import hashlib
import json
import math
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from unicodedata import bidirectional, east_asian_width

from transformer.inspection.data import ABOUT_ATTENTION, SOURCE, TARGET, Findings
from transformer.inspection.page_data import page_data
from transformer.inspection.tables import tables
from transformer.inspection.tokens import Axis, visible

SCRIPTS = (
    *("data.js", "state.js", "lines.js", "heads.js", "chosen.js", "search.js", "numbers.js"),
    *("save.js", "main.js"),
)
"""The parts of the page's script in the order in which they are joined to one JavaScript module."""
LONG_LINE = 160
"""Lines with more characters than this, counting wide characters twice, are shown in a smaller font."""


def page(inspection: Findings) -> str:
    """Make the page of an inspected sentence, a complete HTML document."""
    style, script = read_file("page.css"), "".join(map(read_file, SCRIPTS))
    lines = [name for name in (SOURCE, TARGET) if name in inspection.axes]
    title = visible(inspection.axes[SOURCE].text)
    return Template(read_file("page.html")).substitute(
        script_hash=digest(script),
        style_hash=digest(style),
        title=escape(f"{title[:80]} – what the model did"),
        style=style,
        script=script,
        facts=escape(inspection.facts),
        lines="".join(line(name, inspection.axes[name]) for name in lines),
        verdict=verdict(inspection),
        note=escape(ABOUT_ATTENTION),
        missing="".join(f"<li>{escape(each)}</li>" for each in inspection.missing),
        missing_hidden="" if inspection.missing else " hidden",
        tables=tables(inspection),
        data=json_in_html(page_data(inspection)),
    )


def frame(inspection: Findings) -> str:
    """Make the HTML of a sandboxed iframe that shows the page inside another page, such as a notebook."""
    return (
        '<iframe sandbox="allow-scripts allow-downloads" style="width: 100%; height: 900px; border: 0" '
        f'srcdoc="{escape(page(inspection))}"></iframe>'
    )


def read_file(name: str) -> str:
    return (files("transformer.inspection") / "page_files" / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Compute the hash by which a content security policy identifies a script or a style sheet."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def json_in_html(value: Any) -> str:
    """Write `value` as JSON that cannot contain the end tag of the script element around it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def line(name: str, axis: Axis) -> str:
    """Make the HTML of a line of text at the top of the page, which is readable without JavaScript."""
    width = sum(2 if east_asian_width(character) in "WF" else 1 for character in axis.text)
    size = " long" if width > LONG_LINE else ""
    return (
        f'<div class="line{size}"><span class="label">{escape(axis.label)}</span>'
        f'<p dir="{direction(axis.text)}" data-axis="{name}">{escape(axis.text)}</p></div>'
    )


def direction(text: str) -> str:
    """Return the writing direction of a line: that of the first letter that has one, as in browsers."""
    strong = [bidirectional(character) for character in text]
    return next((("ltr" if each == "L" else "rtl") for each in strong if each in ("L", "R", "AL")), "ltr")


def verdict(inspection: Findings) -> str:
    """Say whether the output is correct, if the correct translation is known, and how probable it is."""
    parts = []
    if inspection.is_right:
        parts.append("<strong>✓ correct</strong>: equals the translation by toyland’s grammar")
    elif inspection.gold is not None:
        right = escape(visible(inspection.gold.reference))
        parts.append(f"<strong>✗ wrong</strong>; the translation by toyland’s grammar: <bdi>{right}</bdi>")
    if inspection.task in ("masked", "classification") and inspection.outputs:
        parts.append(f"predicted: <strong><bdi>{escape(visible(inspection.outputs[0].text))}</bdi></strong>")
    if inspection.log_prob is not None:
        probability = math.exp(inspection.log_prob)
        exact = f" (probability {100 * probability:.1f} %)" if probability >= 0.001 else ""
        parts.append(f"log-probability {inspection.log_prob:.4f}{exact}".replace(" -", " −"))
    return " · ".join(parts)
