"""Following training elsewhere: Weights & Biases, MLflow, or rows for a notebook's table.

python examples/monitoring.py [UPDATES]

Pass one of these functions as `on_event` to `transformer.train`; `gradient_norms` is for `figures`.
"""

import tempfile
from importlib import import_module
from typing import Any

from demonstration import toyland_settings, updates
from torch import nn

import transformer


def numbers(event: transformer.Event) -> dict[str, float]:
    """Those of an event's figures that can be plotted; a validation also has samples."""
    figures = event.figures if event.name in ("train", "valid") else {}
    return {
        f"{event.name}/{name}": value for name, value in figures.items() if isinstance(value, int | float)
    }


def to_wandb(event: transformer.Event) -> None:
    """After `wandb.init(project=...)`."""
    if found := numbers(event):
        import_module("wandb").log(found, step=event.step)


def to_mlflow(event: transformer.Event) -> None:
    """Inside `with mlflow.start_run():`."""
    if found := numbers(event):
        import_module("mlflow").log_metrics(found, step=event.step)


def gradient_norms(model: nn.Module) -> dict[str, Any]:
    """The norm of each layer's gradient."""
    gradients: dict[str, list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and ".blocks." in name:
            layer = ".".join(name.split(".")[:3])  # such as encoder.blocks.0
            gradients.setdefault(f"norm/{layer}", []).append(parameter.grad.norm())
    return {layer: sum(norm**2 for norm in norms) ** 0.5 for layer, norms in gradients.items()}


def main() -> None:
    rows: list[dict[str, Any]] = []  # for pandas.DataFrame(rows)

    def to_rows(event: transformer.Event) -> None:
        rows.append({"event": event.name, "step": event.step, **event.figures})

    with tempfile.TemporaryDirectory() as folder:
        transformer.train(toyland_settings(folder, updates()), on_event=to_rows, figures=gradient_norms)
    for row in rows:
        print({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})


if __name__ == "__main__":
    main()
