"""How a validation is shown to the user: its metrics in one line, and a few samples."""

from collections.abc import Mapping
from typing import Any

FIGURES = {
    "loss": ("loss", "{:.4f} nats"),
    "perplexity": ("perplexity", "{:.3f}"),
    "bleu": ("BLEU", "{:.1f}"),
    "exact_match": ("exact match", "{:.1f} %"),
    "bits_per_byte": ("bits per byte", "{:.4f}"),
    "accuracy": ("accuracy", "{:.1f} %"),
    "p@1": ("P@1", "{:.1f} %"),
    "p@1_reversed": ("P@1 reversed", "{:.1f} %"),
}
"""How validation metrics are printed: label and format."""
SAMPLES = "samples"
"""The key under which a validation may return samples: a list of mappings from label to text."""
LONGEST_TEXT = 200
"""The maximum number of characters of a sample's text to print."""


def labelled(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the formatted metrics by label; metrics that are not in `FIGURES` get four decimal places."""
    figures = {name: FIGURES.get(name, (name, "{:.4f}")) for name in metrics if name != SAMPLES}
    return {label: form.format(metrics[name]) for name, (label, form) in figures.items()}


def in_a_line(metrics: Mapping[str, Any]) -> str:
    return ", ".join(f"{label} {value}" for label, value in labelled(metrics).items())


def validation_report(step: int, metrics: Mapping[str, Any], best_metric: str | None) -> str:
    """Return a line with the metrics, followed by the lines of the samples.

    `best_metric` is the metric by which this validation is the best so far, or None if it is not the best.
    """
    best = "" if best_metric is None else f" (best so far by {FIGURES.get(best_metric, (best_metric,))[0]})"
    lines = [f"update {step:,}: {in_a_line(metrics)}{best}"]
    for sample in metrics.get(SAMPLES, ()):
        width = max(map(len, sample))
        lines += [f"    {label:{width}}  {shortened(text)}".rstrip() for label, text in sample.items()]
    return "\n".join(lines)


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
