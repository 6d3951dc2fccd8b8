"""A lower bound for the time of an update on a GPU, part by part, computed without a GPU.

python benchmarks/roofline.py --size base big

Runs an update in bfloat16 on a fake CUDA device (tests/fake_cuda.py) and records for each operator its
floating-point operations and the bytes of its inputs and outputs. Each operator counts as one kernel. The
time of an operator is the largest of FLOP / --tflops, bytes / --terabytes and --microseconds. A GPU that
needs less time is better than these three figures assume. The batches are random, with the lengths of WMT.
Needs a C++ compiler.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_cuda_build import compile_device


@dataclass
class Cost:
    """The cost of one part of an update."""

    kernels: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def add(self, flops: float, size: float, seconds: float) -> None:
        self.kernels += 1
        self.flops += flops
        self.bytes += size
        self.seconds += seconds


@dataclass(frozen=True)
class Machine:
    """The highest rates that a GPU reaches in practice; the defaults are for an H200 in bfloat16."""

    flops: float
    bandwidth: float
    launch: float

    def seconds(self, flops: float, size: float) -> float:
        return max(flops / self.flops, size / self.bandwidth, self.launch)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", nargs="+", default=["base", "big"])
    parser.add_argument("--tokens", type=int, default=25_000, help="tokens per batch and side")
    parser.add_argument("--vocabulary", type=int, default=37_000)
    parser.add_argument("--batches", type=int, default=3, help="number of batches to average over")
    parser.add_argument("--tflops", type=float, default=600.0, help="TFLOP/s of matrix products")
    parser.add_argument("--terabytes", type=float, default=4.0, help="TB/s of memory")
    parser.add_argument("--microseconds", type=float, default=4.0, help="shortest time of a kernel")
    options = parser.parse_args()
    if "FAKE_CUDA_DEVICE" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:  # torch has to find the device when it is imported
            library = Path(folder) / "fake_cuda.so"
            compile_device(library)
            environment = os.environ | {"FAKE_CUDA_DEVICE": str(library)}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)
    machine = Machine(options.tflops * 1e12, options.terabytes * 1e12, options.microseconds * 1e-6)
    for size in options.size:
        report(size, update_costs(size, options, machine), options.batches)


def update_costs(size: str, options: argparse.Namespace, machine: Machine) -> dict[str, Cost]:
    """The costs of some updates by part."""
    from fake_cuda import CUDA  # isort: skip  (before torch)

    import numpy as np
    import torch
    from gpu_parts import SIZES
    from random_text import RandomPairs
    from torch._subclasses.fake_tensor import FakeTensorMode

    import transformer
    from transformer.data.batches import Batch
    from transformer.kernels.loss import overwriting_cross_entropy
    from transformer.tasks.translation import TranslationLoss
    from transformer.training.loop import accumulate_gradients, clip_gradients
    from transformer.training.objectives import in_precision
    from transformer.training.update_rule import make_update_rule

    config = transformer.ModelConfig(vocab_size=options.vocabulary, **SIZES[size])
    pairs = 30 * options.tokens // 28
    text = RandomPairs(pairs, vocab_size=options.vocabulary, tokens_per_batch=options.tokens)
    loss = TranslationLoss(0.1, cross_entropy=overwriting_cross_entropy)
    objective = in_precision(loss, CUDA, "bfloat16")
    costs: dict[str, Cost] = defaultdict(Cost)
    with FakeTensorMode(), CUDA:
        model = transformer.build_model(config).train()
        rule = make_update_rule(model, transformer.Settings(model=config))
        for number, rows in enumerate(text.plan[: options.batches + 1]):
            shapes = [(len(rows), int(side[rows].max())) for side in (text.source, text.target + 1)]
            source, target = (torch.zeros(shape, dtype=torch.int64) for shape in shapes)
            batch = Batch(source, target, np.array(rows), int(text.target[rows].sum()))
            is_first = number == 0  # the first update also allocates Adam's moments
            with nullcontext() if is_first else operators_of(costs, options.vocabulary, machine):
                found = accumulate_gradients(objective, model, [batch])
                norm = clip_gradients(model, None)
                rule.step((found.total + norm).isfinite().float())
    return costs


def operators_of(costs: dict[str, Cost], vocabulary: int, machine: Machine) -> Any:
    """A context manager that adds the cost of each operator in its block to the part it belongs to."""
    from fake_cuda import VIEWS
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            found = function(*args, **kwargs)
            name = function.overloadpacket.__name__
            if name in VIEWS or function.namespace != "aten":
                return found
            tensors = [each for each in tree_leaves((args, kwargs, found)) if isinstance(each, Tensor)]
            size = sum(touched(name, each, args) for each in {id(t): t for t in tensors}.values())
            count = flop_registry.get(function.overloadpacket)
            flops = count(*args, **kwargs, out_val=found) if count else 0
            part = part_of(name, [each.shape for each in tensors], vocabulary)
            costs[part].add(flops, size, machine.seconds(flops, size))
            return found

    return Operators()


def touched(name: str, tensor: Any, args: Any) -> int:
    """The bytes of a tensor that an operator reads or writes: all, or only those of indexed elements."""
    most = args[2].numel() if name in ("gather", "scatter_", "scatter_add_") else tensor.numel()
    return min(tensor.numel(), most) * tensor.element_size()


PARTS = {
    "attention": ("_scaled_dot_product",),
    "layer norms": ("native_layer_norm",),
    "dropout": ("native_dropout",),
    "ReLU": ("relu", "threshold_backward"),
    "casts between float32 and bfloat16": ("_to_copy",),
    "embeddings": ("embedding",),
    "Adam": ("_fused_adamw_", "_foreach_add_", "_foreach_sub_"),
    "norm of the gradient": ("linalg_vector_norm", "_foreach_norm"),
    "residual sums, sums of gradients": ("add", "sum"),
}
"""For each part, the prefixes of the names of its operators."""


def part_of(name: str, shapes: Iterable[Any], vocabulary: int) -> str:
    """The part of an update that an operator belongs to, by its name and the shapes of its tensors."""
    is_product = name in ("mm", "addmm", "bmm")
    is_output = any(vocabulary in shape for shape in shapes)
    if is_product:
        return "products of the vocabulary" if is_output else "products of the layers"
    if is_output and not name.startswith(("embedding", "_fused", "_foreach", "linalg")):
        return "loss"
    return next((part for part, names in PARTS.items() if name.startswith(names)), "others")


def report(size: str, costs: dict[str, Cost], batches: int) -> None:
    total = Cost()
    for cost in costs.values():
        total = Cost(
            *(mine + more for mine, more in zip(vars(total).values(), vars(cost).values(), strict=True))
        )
    print(f"\n{size}: {1000 * total.seconds / batches:.1f} ms an update")
    print(f"{'part':<38}{'kernels':>8}{'TFLOP':>8}{'GB':>8}{'ms':>8}{'share':>8}")
    for part, cost in [*sorted(costs.items(), key=lambda item: -item[1].seconds), ("whole update", total)]:
        print(
            f"{part:<38}{cost.kernels / batches:>8,.0f}{cost.flops / batches / 1e12:>8.2f}"
            f"{cost.bytes / batches / 1e9:>8.1f}{1000 * cost.seconds / batches:>8.2f}"
            f"{cost.seconds / total.seconds:>8.1%}"
        )


if __name__ == "__main__":
    main()
