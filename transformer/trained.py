"""Loading a trained model, given the path of its run, and scoring it."""

from pathlib import Path

from transformer.checkpoint.opening import find_pretrained, open_checkpoint
from transformer.checkpoint.pretrained import Build, Pretrained, load_opened, require_builder
from transformer.config import Settings
from transformer.config.checks import require
from transformer.config.files import load_settings
from transformer.custom import chosen_task
from transformer.model.build import build_model
from transformer.tasks.task import Task


def load_pretrained(
    path: str | Path, *, build: Build = build_model, task: type[Task] | None = None, device: str = "auto"
) -> Pretrained:
    """Load the model of a run, with the head of its task, its tokenizer and its settings.

    `path` is a run's folder (its best checkpoint is loaded), a single checkpoint, or a run on the Hub. The
    model is in evaluation mode, and its parameters can be trained. `build` and `task` must be the same as in
    training.
    """
    run, checkpoint = find_pretrained(path)
    settings = load_settings(run.config)
    require_builder(settings, build, path)
    head = chosen_task(settings, task).head
    return load_opened(open_checkpoint(run, checkpoint), build=build, head=head, device=device)


def evaluate(
    path: str | Path,
    *,
    build: Build = build_model,
    task: type[Task] | None = None,
    data: str | None = None,
    device: str = "auto",
) -> dict[str, float]:
    """Score a run on the text `data`, by default `data.test`.

    Returns the scores that `transformer evaluate` prints.
    """
    trained = load_pretrained(path, build=build, task=task, device=device)
    chosen = chosen_task(trained.settings, task)
    values = chosen.score(trained, text_to_score(trained.settings, data)).values
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def text_to_score(settings: Settings, data: str | None) -> str:
    """Return the text to evaluate on: `data` or, if `data` is None, the run's `data.test`."""
    name = data or settings.data.test
    require(
        name is not None,
        "data.test is not set in the run's settings; pass --data with the text to evaluate on",
    )
    assert name is not None
    return name
