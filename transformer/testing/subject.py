"""A model under test: its kind, inferred from its methods, and random batches for it."""

import inspect
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode

from transformer.config import Kind
from transformer.decoding.search import EOS_ID, PAD_ID

BOS_ID = 1
"""The BOS token of a model that has no attribute `bos_id`."""


class ProbeBatch(NamedTuple):
    """Right-padded tokens; for an encoder-decoder, `tokens` is the target."""

    tokens: Int[Tensor, "batch length"]
    source: Int[Tensor, "batch source"] | None

    def row(self, row: int) -> "ProbeBatch":
        """Return one row as a separate batch, including the row's padding."""
        return ProbeBatch(
            self.tokens[row : row + 1], None if self.source is None else self.source[row : row + 1]
        )


class Subject:
    """A model, its kind and vocabulary, and random batches for it.

    Special tokens are the model's attributes `pad_id`, `bos_id` and `eos_id`; the defaults are 0, 1 and 2.
    Random batches contain only ordinary tokens, apart from BOS and padding.
    """

    def __init__(self, model: nn.Module, kind: Kind | None = None, vocab_size: int | None = None) -> None:
        self.model = cast(Any, model)  # its methods other than `forward` depend on its kind
        self.kind = kind or kind_of(model)
        self.pad_id = getattr(model, "pad_id", PAD_ID)
        self.bos_id = getattr(model, "bos_id", BOS_ID)
        self.eos_id = getattr(model, "eos_id", EOS_ID)
        parameter = next(model.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self.vocab_size = vocab_size or self.find_vocab_size()
        special = (self.pad_id, self.bos_id, self.eos_id)
        self.ordinary = torch.tensor([token for token in range(self.vocab_size) if token not in special])
        if len(self.ordinary) < 2:
            raise ValueError(f"vocab_size is {self.vocab_size}; the checks need 2 tokens besides {special}")

    def run(self, batch: ProbeBatch) -> Float[Tensor, "batch length width"] | Float[Tensor, "batch width"]:
        """Run one forward pass; a pooled output of an encoder has no dimension for the length."""
        if self.kind == "encoder_decoder":
            return self.model(batch.source, batch.tokens)
        return self.model(batch.tokens)

    def batch(self, lengths: Sequence[int], source_lengths: Sequence[int]) -> ProbeBatch:
        """Make random rows of these lengths; the targets of an encoder-decoder start with BOS."""
        tokens = self.random_rows(lengths)
        if self.kind != "encoder_decoder":
            return ProbeBatch(tokens, None)
        tokens[:, 0] = self.bos_id
        return ProbeBatch(tokens, self.random_rows(source_lengths))

    def random_rows(self, lengths: Sequence[int]) -> Int[Tensor, "batch length"]:
        rows = [self.ordinary[torch.randint(len(self.ordinary), (length,))] for length in lengths]
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(self.device)

    def with_pads(self, batch: ProbeBatch, count: int) -> ProbeBatch:
        """Return the batch with `count` more pads at the end of every row."""
        tokens = F.pad(batch.tokens, (0, count), value=self.pad_id)
        if batch.source is None:
            return ProbeBatch(tokens, None)
        return ProbeBatch(tokens, F.pad(batch.source, (0, count), value=self.pad_id))

    def find_vocab_size(self) -> int:
        """Return the width of the logits, or the number of token embeddings if that number is smaller."""
        token = torch.tensor([[self.eos_id, self.eos_id]], device=self.device)
        with torch.no_grad(), Embeddings(token) as embeddings:
            output = self.run(ProbeBatch(token, token))
        sizes = [] if self.kind == "encoder_only" else [output.shape[-1]]
        sizes += embeddings.sizes
        if not sizes:
            raise ValueError("the model has no logits and no nn.Embedding of its tokens; give vocab_size")
        return min(sizes)


class Embeddings(TorchFunctionMode):
    """Records the result of every `F.embedding` call for exactly these tokens inside a `with` block."""

    def __init__(self, tokens: Int[Tensor, "batch length"]) -> None:
        super().__init__()
        self.tokens = tokens
        self.vectors: list[Tensor] = []
        self.sizes: list[int] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.embedding and torch.equal(args[0], self.tokens):
            if not result.requires_grad and torch.is_grad_enabled():
                result.requires_grad_()  # a frozen embedding
            self.vectors.append(result)
            self.sizes.append(len(args[1]))
        return result


def kind_of(model: nn.Module) -> Kind:
    """Infer the kind of a model from its methods.

    A model with two required inputs, or with `encode` and `decode`, is an encoder-decoder. Any other model
    with `prefill` and `step` is decoder-only, and the rest are encoder-only.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    if len(required) == 2 or offers(model, "encode", "decode"):
        return "encoder_decoder"
    return "decoder_only" if offers(model, "prefill", "step") else "encoder_only"


def offers(model: nn.Module, *methods: str) -> bool:
    return all(callable(getattr(model, method, None)) for method in methods)


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Restore the model's modes and buffers, and all random number generators, after the block."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(module, name, buffer) for module in modes for name, buffer in module._buffers.items()]
    values = [None if buffer is None else buffer.detach().clone() for _, _, buffer in buffers]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for (module, name, buffer), value in zip(buffers, values, strict=True):
                    module._buffers[name] = buffer  # the model may have replaced the tensor
                    if buffer is not None and value is not None and not torch.equal(buffer, value):
                        buffer.copy_(value)


def seed_everything(seed: int) -> None:
    """Seed all random number generators that a model may use: torch's, NumPy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
