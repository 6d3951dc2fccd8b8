"""A model card for the Hugging Face Hub: the facts that a run's folder records about its model."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from safetensors import safe_open

from transformer.checkpoint.format import MODEL
from transformer.checkpoint.opening import find_pretrained
from transformer.checkpoint.reading import read_state
from transformer.checkpoint.run import Run
from transformer.config import Settings, setting_names
from transformer.config.files import load_settings
from transformer.config.settings import differing
from transformer.data.json_text import parse_object
from transformer.data.text import CorpusError
from transformer.evaluation.curves import read_curves
from transformer.tasks.registry import Use, is_custom, use_of
from transformer.version import DISTRIBUTION

LICENCE = "unknown"
FILL_IN = "  # fill in, such as mit or cc-by-4.0; it may depend on the licence of the training text"
LANGUAGE = re.compile(r"[a-z]{2,3}([-_]\w+)?", re.IGNORECASE)
"""Matches language codes such as `en`, `deu` or `zh_Hans`. The setting `data.source` may also be a column's
name, such as `english_text`, which the card does not list as a language."""
LEFT_OUT = ("output", "device")
"""Settings that the card leaves out, because they say nothing about the model."""


def model_card(name: str | Path, scores: Mapping[str, Any] | None = None) -> str:
    """Write the card of the checkpoint `name` or, if `name` is a run, of the run's best checkpoint.

    `scores` is the output of `evaluate --json`.
    """
    run, checkpoint = find_pretrained(name)
    settings = load_settings(run.config)
    if scores is not None and (scored := Path(scores["checkpoint"]).name) != checkpoint.name:
        raise ValueError(f"the scores are those of {scored}, but the card is about {checkpoint.name}")
    use = use_of(settings.trained_task)
    title = run.path.resolve().name
    sections = {
        f"# {title}": introduction(settings, checkpoint),
        "## Use": (
            f"Install the project `{DISTRIBUTION}` from its repository (`pip install transformer` may "
            f"install something else), then:\n\n    transformer {command(use, settings)}"
        ),
        "## Data": data_table(run, settings),
        "## Training": training_facts(run, checkpoint, settings),
        "## Scores": score_tables(run, checkpoint, settings, scores),
        "## Intended use and limits": (
            "*Fill in: what the model is for, what it should not be used for, and its known errors.*"
        ),
    }
    body = "\n\n".join(f"{heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{front_matter(settings, use)}---\n\n{body}\n"


def command(use: Use | None, settings: Settings) -> str:
    """The command that uses the model, with options that name the custom code that the model needs."""
    task = settings.trained_task
    custom = {"--build": settings.build, "--task": task if is_custom(task) else None}
    run = " ".join(["--run OWNER/NAME", *(f"{option} {name}" for option, name in custom.items() if name)])
    if use is None:
        return f"evaluate {run}"
    return use.command.format(run=run) + (" < lines.txt" if use.reads_lines else "")


def front_matter(settings: Settings, use: Use | None) -> str:
    from huggingface_hub import ModelCardData

    languages = [each for each in (settings.data.source, settings.data.target) if LANGUAGE.fullmatch(each)]
    is_translation = settings.trained_task == "translation"
    data = ModelCardData(
        language=[re.split("[-_]", each)[0] for each in languages] if is_translation else None,
        license=LICENCE,
        pipeline_tag=use.hub_tag if use else None,
        tags=["transformer", settings.model.kind, settings.model.norm + "-norm"],
    )
    return data.to_yaml().rstrip().replace(f"license: {LICENCE}", f"license: {LICENCE}{FILL_IN}") + "\n"


def introduction(settings: Settings, checkpoint: Path) -> str:
    model, size = settings.model, (checkpoint / MODEL).stat().st_size
    paper = "[Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)"
    what = settings.trained_task.replace("_", " ").replace("model", "modelling")
    if settings.trained_task == "translation":
        what += f" from `{settings.data.source}` to `{settings.data.target}`"
    rows = {
        "kind": model.kind,
        "parameters": f"{parameter_count(checkpoint):,}, {size / 1e6:,.1f} MB",
        "layers": f"{model.num_layers}: d_model {model.d_model}, {model.num_heads} heads, d_ff {model.d_ff}",
        "vocabulary": f"{model.vocab_size:,} tokens, {settings.data.tokenizer}",
        "checkpoint": checkpoint.name,
    }
    return f"A Transformer ({paper}) for {what}.\n\n{table(rows)}"


def parameter_count(checkpoint: Path) -> int:
    """The number of weights in a checkpoint; tied weights are stored, and counted, once."""
    count = 0
    with safe_open(checkpoint / MODEL, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dictionary
            size = 1
            for length in file.get_slice(name).get_shape():
                size *= length
            count += size
    return count


def data_table(run: Run, settings: Settings) -> str:
    data, counts = settings.data, data_event(run)
    counted = ", ".join(
        f"{counts[name]:,} {name.replace('_', ' ')}"
        for name in ("kept", "empty", "too_long", "sentences", "classes", "tokens")
        if isinstance(counts.get(name), int)
    )
    names = {"training": data.train, "validation": data.valid, "test": data.test}
    rows = {kind: f"`{without_folders(name)}`" for kind, name in names.items() if name is not None}
    if counted:
        rows["training"] += f" ({counted})"
    return table(rows)


def without_folders(name: str) -> str:
    """Shorten the name of a corpus or folder outside the working directory to the last part of its path.

    The names of folders on somebody's computer mean nothing to other people, and may be private.
    """
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.is_absolute() or path.parts[:1] in (("~",), ("..",)):
            return path.name
    return name


def training_facts(run: Run, checkpoint: Path, settings: Settings) -> str:
    state, started = read_state(checkpoint), data_event(run)
    facts = []
    if "step" in state:
        facts.append(f"{state['step']:,} updates of {settings.training.max_steps:,}")
    if "averaged" in state:
        facts.append(f"the mean of the checkpoints of updates {', '.join(map(str, state['averaged']))}")
    if "seconds" in state:
        facts.append(f"{state['seconds'] / 3600:.1f} hours")
    facts += [f"{name} {started[name]}" for name in ("precision", "device", "processes") if name in started]
    changed = differing(Settings(), settings, (name for name in setting_names() if name not in LEFT_OUT))
    values = {name: without_folders(value) if isinstance(value, str) else value for name, _, value in changed}
    listed = yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else "# none\n"
    return "\n\n".join(
        [
            *([f"{'; '.join(facts)}."] if facts else []),
            f"Settings that are not the default (`config.yaml` has all settings):\n\n```yaml\n{listed}```",
        ]
    )


def score_tables(run: Run, checkpoint: Path, settings: Settings, scores: Mapping[str, Any] | None) -> str:
    parts = []
    if scores is not None:
        rows = {name: score_text(scores, name) for name, value in scores.items() if isinstance(value, float)}
        parts.append(f"On `{without_folders(scores['data'])}`:\n\n{table(rows)}")
    if validated := validation_figures(run, checkpoint):
        how = data_event(run).get("bleu_signature")
        note = f" BLEU by greedy search: `{how}`." if how and "bleu" in validated else ""
        rows = {name: f"{value:.4g}" for name, value in validated.items()}
        parts.append(
            f"In validation on `{without_folders(settings.data.valid or '')}`:{note}\n\n{table(rows)}"
        )
    return "\n\n".join(parts) or "*Fill in, or give `card --scores` the output of `evaluate --json`.*"


def validation_figures(run: Run, checkpoint: Path) -> dict[str, float]:
    """The validation metrics of a checkpoint; `{}` if it was not validated."""
    step = read_state(checkpoint).get("step")
    if step is None or not run.log.exists():
        return {}
    curves = read_curves(run)
    return {
        name.removeprefix("valid/"): curve[step]
        for name, curve in curves.items()
        if name.startswith("valid/") and step in curve
    }


def data_event(run: Run) -> dict[str, Any]:
    """The last `data` event in the log, which describes the corpus and the machine, or `{}`."""
    found: dict[str, Any] = {}
    if run.log.exists():
        for line in run.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, AttributeError):  # raised for a line truncated by a full disk
                entry = json.loads(line)
                found = entry if entry.get("event") == "data" else found
    return found


def read_scores(path: Path) -> dict[str, Any]:
    """Read the scores in a file that holds the output of `transformer evaluate --json`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CorpusError(f"{path}: not UTF-8; give the output of `transformer evaluate --json`") from None
    return parse_object(text, str(path), ["checkpoint", "data"])[0]


def score_text(scores: Mapping[str, Any], name: str) -> str:
    """The value to four digits, and sacreBLEU's signature if the score has one."""
    signature = scores.get(f"{name}_signature")
    return f"{scores[name]:.4g}" + (f" `{signature}`" if signature else "")


def table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])
