"""The alternatives to this project's training, and how each is trained: `build` and `make_update`.

An alternative is skipped if a package that it needs is missing. `transformers` is in our extra `benchmarks`.
eole, torchlingo and x-transformers are in no extra: they depend on dozens of packages that training does not
use, and eole 0.6.4 depends on an older sentencepiece than constraints.txt has. Install them without
dependencies, together with the packages that they import:

    pip install --no-deps eole==0.6.4 pyonmttok configargparse rapidfuzz
    pip install --no-deps torchlingo==0.2.9
    pip install --no-deps x-transformers==2.31.10 torch-einops-utils einops einx frozendict loguru

All but eole are trained by a plain loop, as in a tutorial, with torch's cross-entropy; eole is trained by its
own trainer (benchmarks/peer_eole.py). The optimiser is torch's fused Adam everywhere.
"""

from collections.abc import Callable
from importlib.util import find_spec

import peer_models
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer import ModelConfig
from transformer.config import Precision

Update = Callable[[Tensor, Tensor], None]
"""Trains on source and target tokens; the target starts with BOS."""
NEEDS = {
    "Marian": ["transformers"],
    "torch.nn.Transformer": ["torch"],
    "eole": ["eole", "pyonmttok", "configargparse", "rapidfuzz"],
    "torchlingo": ["torchlingo"],
    "x-transformers": ["x_transformers", "torch_einops_utils", "einops", "einx", "frozendict", "loguru"],
}
"""The modules that each alternative imports."""


def missing_modules(name: str) -> list[str]:
    """The modules that this alternative needs and that are not installed."""
    return [module for module in NEEDS[name] if find_spec(module) is None]


def build(name: str, config: ModelConfig) -> nn.Module:
    """A module of source and target tokens that returns logits."""
    if name == "eole":
        from peer_eole import Eole

        return Eole(config)
    models: dict[str, Callable[[ModelConfig], nn.Module]] = {
        "Marian": peer_models.marian,
        "torch.nn.Transformer": peer_models.TorchTransformer,
        "torchlingo": peer_models.torchlingo,
        "x-transformers": peer_models.XTransformer,
    }
    return models[name](config)


def make_update(name: str, model: nn.Module, config: ModelConfig, precision: Precision) -> Update:
    """An update of the model that `build` returned."""
    if name == "eole":
        from peer_eole import eole_update

        return eole_update(model, config, precision)
    return plain_update(model, precision, pad_id=config.pad_id)


def plain_update(model: nn.Module, precision: Precision, *, pad_id: int) -> Update:
    """The loop of a tutorial; the optimiser is fused, as ours is."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def update(src_tokens: Tensor, tgt_tokens: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(src_tokens, tgt_tokens[:, :-1])
            loss = F.cross_entropy(
                logits.flatten(0, 1), tgt_tokens[:, 1:].flatten(), ignore_index=pad_id, label_smoothing=0.1
            )
        loss.backward()
        optimizer.step()

    return update
