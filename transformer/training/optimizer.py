"""The optimizers (§5.3): those that `training.optimizer` names, and custom ones."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from transformer.config import TrainingConfig

NamedParameters = list[tuple[str, nn.Parameter]]
MakeOptimizer = Callable[[NamedParameters], torch.optim.Optimizer | Sequence[torch.optim.Optimizer]]
"""Makes one optimizer for the given parameters, or several optimizers, each for some of the parameters."""


def adam(parameters: NamedParameters, settings: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Make Adam as in §5.3, or AdamW if there is weight decay; one fused call updates all parameters."""
    return [
        torch.optim.AdamW(
            [parameter for _, parameter in parameters],
            lr=1.0,  # replaced before every update
            betas=(settings.adam_beta1, settings.adam_beta2),
            eps=settings.adam_epsilon,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    ]


def muon(parameters: NamedParameters, settings: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Make Muon for the matrices of the layers, and Adam for embeddings, output, biases and norms.

    Muon's updates are scaled to the size of Adam's, so that one learning rate fits both.
    """
    hidden = [parameter for name, parameter in parameters if is_hidden_matrix(name, parameter)]
    if not hidden:
        raise ValueError("training.optimizer is muon, but the model has no matrices in layers named `blocks`")
    others = [(name, parameter) for name, parameter in parameters if not is_hidden_matrix(name, parameter)]
    decay, adjust = settings.weight_decay, "match_rms_adamw"
    return [
        *adam(others, settings),
        torch.optim.Muon(hidden, lr=1.0, weight_decay=decay, adjust_lr_fn=adjust),
    ]


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    return ".blocks." in f".{name}" and parameter.ndim == 2


OPTIMIZERS: dict[str, Callable[[NamedParameters, TrainingConfig], list[torch.optim.Optimizer]]] = {
    "adam": adam,
    "muon": muon,
}
"""The choices of `training.optimizer`."""


def make_optimizers(
    model: nn.Module, settings: TrainingConfig, make: MakeOptimizer | None = None
) -> list[torch.optim.Optimizer]:
    """Call `make` with the parameters or, if `make` is None, make the optimizers that the settings name."""
    parameters = list(model.named_parameters())
    if make is None:
        return OPTIMIZERS[settings.optimizer](parameters, settings)
    made = make(parameters)
    optimizers = [made] if isinstance(made, torch.optim.Optimizer) else made
    if not optimizers or not all(isinstance(optimizer, torch.optim.Optimizer) for optimizer in optimizers):
        raise ValueError("`optimizer` must return a torch.optim.Optimizer, or a list of them")
    return list(optimizers)


def take_step(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Apply the update if `finite` is 1.

    A fused optimizer checks `finite` on the device, as it does for torch's GradScaler. For any other
    optimizer, the CPU reads `finite`, which forces a synchronization with the GPU in every update.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = 1.0 - finite  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(finite):
        optimizer.step()
