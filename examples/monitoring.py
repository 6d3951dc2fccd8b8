"""Follow training in Weights & Biases, in MLflow, or as a table in a notebook.

python examples/monitoring.py [UPDATES]

Pass `to_wandb`, `to_mlflow` or a custom function to `transformer.train` as `on_event`, and `gradient_norms`
as `figures`.
"""

import tempfile
from importlib import import_module
from typing import Any

from demonstration import toyland_settings, updates
from torch import nn

import transformer


def numbers(event: transformer.Event) -> dict[str, float]:
    """Return the numbers in a training or validation event, without a validation's sample translations."""
    figures = event.figures if event.name in ("train", "valid") else {}
    return {
        f"{event.name}/{name}": value for name, value in figures.items() if isinstance(value, int | float)
    }


def to_wandb(event: transformer.Event) -> None:
    """Log to Weights & Biases; call `wandb.init(project=...)` before training."""
    if found := numbers(event):
        import_module("wandb").log(found, step=event.step)


def to_mlflow(event: transformer.Event) -> None:
    """Log to MLflow; train inside `with mlflow.start_run():`."""
    if found := numbers(event):
        import_module("mlflow").log_metrics(found, step=event.step)


def gradient_norms(model: nn.Module) -> dict[str, Any]:
    """Compute the norm of each layer's gradient."""
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
