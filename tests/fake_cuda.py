"""A CUDA device without a GPU: torch's fake tensors are on it, and each operation computes shapes only.

Values read from the fake device are meaningless, so `run_on_both` first runs the program on the CPU and
records each value by the function that read it. The second run, on the fake device, gets these values and
therefore takes the same branches.
"""

import ctypes
import os
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ctypes.CDLL(os.environ["FAKE_CUDA_DEVICE"], mode=ctypes.RTLD_GLOBAL)  # torch asks for devices while imported

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._foreach_utils import _foreach_supported_types  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

PACKAGE = f"{Path(__file__).parents[1] / 'transformer'}/"
CUDA = torch.device("cuda", 0)

torch.cuda.amp.common.amp_definitely_not_available = lambda: False
torch.cuda.is_bf16_supported = lambda *_, **__: True
_foreach_supported_types.append(FakeTensor)  # one kernel for the norms of all gradients, as on a GPU
FakeTensor.tolist = Tensor.tolist  # instead of one that reads each number separately, past `Reads`


@dataclass
class Record:
    """What a run did on the device, with counts by the innermost function of the package."""

    reads: Counter[str] = field(default_factory=Counter)
    """Values that the program waited for."""
    copies: Counter[str] = field(default_factory=Counter)
    """Blocking copies to and from the device."""
    operators: Counter[str] = field(default_factory=Counter)
    """Operators other than views, by name: about the number of kernels."""

    def __sub__(self, other: "Record") -> "Record":
        parts = [Counter(mine) for mine in vars(self).values()]
        for part, theirs in zip(parts, vars(other).values(), strict=True):
            part.subtract(theirs)
        return Record(*(Counter({key: n for key, n in part.items() if n}) for part in parts))


READS = {"item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "equal", "allclose"}
"""Functions that return numbers, so that they wait for the device."""
SIZES = {"nonzero", "unique_consecutive", "unique", "masked_select", "argwhere"}
"""Functions whose results have sizes that depend on values, so that they wait for the device as well."""
VIEWS = set(
    """view _unsafe_view t transpose permute expand select slice unsqueeze squeeze detach alias as_strided
    split split_with_sizes unbind _reshape_alias diagonal unfold lift_fresh empty empty_like empty_strided
    new_empty new_empty_strided sym_size scalar_tensor""".split()  # noqa: SIM905
)
"""Operators that start no kernel."""
WAITING = {"multinomial", "repeat_interleave", "_local_scalar_dense"}
"""Operators that read a value inside."""


class Event(torch.Event):
    """An event; waiting for it is recorded like the read of a value."""

    record_of_waits = Record()

    def synchronize(self) -> None:
        self.record_of_waits.reads[place()] += 1


torch.Event = Event


class Reads(TorchFunctionMode):
    """Records the values read from real tensors; reads from fake tensors get them in the same order."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        Event.record_of_waits = record
        self.record = record
        self.values: dict[tuple[str, str], deque[Any]] = defaultdict(deque)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name not in READS | SIZES or not args or not isinstance(args[0], Tensor):
            return function(*args, **kwargs)
        where = place()
        if not isinstance(args[0], FakeTensor):
            found = function(*args, **kwargs)
            self.values[name, where].append(found)
            return found
        if args[0].device.type != "cpu":
            self.record.reads[where] += 1
        found = self.values[name, where].popleft()  # IndexError: only the run on the device reads here
        return torch.utils._pytree.tree_map_only(Tensor, on_device, found) if name in SIZES else found


def on_device(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device=CUDA)


class Operators(TorchDispatchMode):
    """Counts operators, and notes what waits inside them."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        found = function(*args, **kwargs)
        if name not in VIEWS and function.namespace == "aten":
            self.record.operators[name] += 1
        if name in WAITING or (name in ("index", "index_put", "index_put_") and selects_by_mask(name, args)):
            self.record.reads[place()] += 1
        if name in ("_to_copy", "copy_"):
            source, target = (args[1], args[0]) if name == "copy_" else (args[0], found)
            if source.device.type != target.device.type and not kwargs.get("non_blocking", False):
                self.record.copies[f"{source.device.type} to {target.device.type} in {place()}"] += 1
        return found


def selects_by_mask(name: str, args: Any) -> bool:
    """Whether it must count the mask's values; writing a single number is `masked_fill` instead."""
    is_fill = name != "index" and args[2].numel() == 1
    return not is_fill and any(isinstance(part, Tensor) and part.dtype == torch.bool for part in args[1])


def place() -> str:
    """The innermost function of the package that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if path.startswith(PACKAGE):
            return f"{path.removeprefix(PACKAGE)}: {name.split('.<locals>')[0]}"
        frame = frame.f_back
    return "backward pass"


def run_on_both(program: Callable[[torch.device], Callable[[], object]]) -> Record:
    """Call `program` with a device; what it returns is run and recorded.

    It must do the same on the CPU and on the fake device.
    """
    record = Record()
    reads = Reads(record)
    torch.manual_seed(0)
    run = program(torch.device("cpu"))
    with reads:
        run()
    with FakeTensorMode():
        with CUDA:
            run = program(CUDA)
        with reads, Operators(record):
            run()
    return record
