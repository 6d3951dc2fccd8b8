"""The parts of benchmarks/gpu.py: each yields lines of figures as soon as they are known."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import torch
from measuring import seconds_per_call, update_flops
from random_text import RandomPairs, wmt_lengths
from torch import nn
from torch.amp import GradScaler

from transformer import ModelConfig, Settings, TrainingConfig, beam_search, build_model, greedy_search
from transformer.checkpoint.run import Run
from transformer.config import Precision
from transformer.decoding.inference import freeze, without_gradients
from transformer.decoding.processors import MinLength
from transformer.hardware import choose_precision, wait_for
from transformer.kernels.loss import GradientScale, overwriting_cross_entropy, scaling_gradients
from transformer.tasks.translation import TranslationLoss
from transformer.training.objectives import smoothed_cross_entropy
from transformer.training.rehearsal import rehearse
from transformer.training.state import TrainingState
from transformer.training.update_rule import make_update_rule

SIZES = {
    "tiny": {"d_model": 32, "num_heads": 2, "d_ff": 64, "num_layers": 1},
    "base": {"d_model": 512, "num_heads": 8, "d_ff": 2048, "num_layers": 6},
    "big": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 6},
}
LENGTH = 28
"""Tokens of a source and of its output in decoding: the mean of WMT."""


@dataclass(frozen=True)
class Bench:
    """The device and the sizes that all parts use."""

    device: torch.device
    vocabulary: int
    tokens: int
    """Tokens per batch and side."""
    peak: float
    """The FLOP/s to which the model's FLOP/s are compared."""

    @property
    def precision(self) -> Precision:
        return choose_precision("auto", self.device)

    @cached_property
    def batches(self) -> RandomPairs:
        pairs = 30 * self.tokens // LENGTH
        return RandomPairs(pairs, vocab_size=self.vocabulary, tokens_per_batch=self.tokens)

    def model(self, size: str, **values: Any) -> ModelConfig:
        return ModelConfig(vocab_size=self.vocabulary, **SIZES[size], **values)

    def state(self, size: str) -> TrainingState:
        torch.manual_seed(1)
        model = build_model(self.model(size)).to(self.device)
        self.batches.load_state_dict({"epoch": 0, "next_batch": 0})
        return TrainingState(model, make_update_rule(model, Settings()), self.batches)


def agreement(bench: Bench) -> Iterator[str]:
    """Whether this GPU gives the same results as independent implementations."""
    from transformer.testing.parity.items import selftest

    items = list(selftest(bench.device, seed=0))
    failed = [str(item) for item in items if not item.is_ok]
    yield f"{len(items) - len(failed)} of {len(items)} items agree"
    yield from failed


def training(bench: Bench, size: str, *, is_compiled: bool) -> Iterator[str]:
    settings = Settings(model=bench.model(size), training=TrainingConfig(compile=is_compiled))
    objective = TranslationLoss(0.1, cross_entropy=overwriting_cross_entropy)
    found = rehearse(bench.state(size), settings, objective=objective, precision=bench.precision)
    batches = bench.batches
    flops = update_flops(settings.model, batches.source, batches.target) / batches.target.sum()
    memory = "?" if found.peak_bytes is None else f"{found.peak_bytes / 2**30:.1f}"
    yield (
        f"{found.tokens_per_second:,.0f} target tokens/s, {1000 * found.seconds_per_update:.1f} ms an update,"
        f" MFU {flops * found.tokens_per_second / bench.peak:.1%}, {memory} GiB; "
        f"100,000 updates in {100_000 * found.seconds_per_update / 60:.0f} minutes"
    )


def cudnn_attention(bench: Bench, size: str) -> Iterator[str]:
    """Training with and without cuDNN's attention, which makes an execution plan for each shape.

    This function leaves the switch on; `run` restores it.
    """
    for is_enabled in (False, True):
        torch.backends.cuda.enable_cudnn_sdp(is_enabled)
        for line in training(bench, size, is_compiled=False):
            yield f"{'with' if is_enabled else 'without'}: {line}"


def kernels(bench: Bench, size: str, most: int = 25) -> Iterator[str]:
    """The kernels in which an eager update spends its time."""
    from torch.profiler import ProfilerActivity, profile
    from training import our_update

    update = our_update(bench.model(size), bench.device, bench.precision)
    batches = [bench.batches.fetch(rows).to(bench.device) for rows in bench.batches.epoch(0)[:3]]
    is_gpu = bench.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU]) as found:
        for batch in batches:
            update(batch.src_tokens, batch.tgt_tokens)
        wait_for(bench.device)
    column = "self_device_time_total" if is_gpu else "self_cpu_time_total"
    spent = sorted(
        ((getattr(each, column), each) for each in found.key_averages()), key=lambda pair: -pair[0]
    )
    total = sum(microseconds for microseconds, _ in spent)
    yield f"{total / len(batches) / 1000:.1f} ms of kernels an update, {len(spent)} kinds"
    for microseconds, each in spent[:most]:
        yield f"{microseconds / total:>6.1%} {each.count / len(batches):>8.1f} calls  {each.key[:90]}"


def loss_alone(bench: Bench, size: str) -> Iterator[str]:
    """The time of the last projection and the loss, forward and backward, with different losses."""
    config = bench.model(size)
    dtype = getattr(torch, bench.precision)
    hidden = torch.randn(
        1, bench.tokens, config.d_model, device=bench.device, dtype=dtype, requires_grad=True
    )
    output = nn.Linear(config.d_model, config.vocab_size, bias=False, device=bench.device, dtype=dtype)
    labels = torch.randint(4, config.vocab_size, (1, bench.tokens), device=bench.device)

    def products() -> None:
        logits = output(hidden)
        torch.autograd.backward(logits, logits.detach())

    scale = GradientScale(1 / bench.tokens, GradScaler(enabled=False))

    def with_loss(cross_entropy: Callable[..., torch.Tensor]) -> None:
        with scaling_gradients(scale):
            loss = cross_entropy(output(hidden), labels, label_smoothing=0.1, pad_id=0)
        loss.backward(scale.like(loss))

    for name, call in {
        "products alone": products,
        "in training, eager": partial(with_loss, overwriting_cross_entropy),
        "torch's, eager": partial(with_loss, smoothed_cross_entropy),
        "torch's, compiled": torch.compile(partial(with_loss, smoothed_cross_entropy)),
    }.items():
        yield f"{name:<20}{1000 * seconds_per_call(call, bench.device, seconds=0.5):>8.2f} ms"


def reader(bench: Bench) -> Iterator[str]:
    """The time to make batches of a tokenized corpus on the disk, and to move them to the device."""
    import datasets

    from transformer.data.batches import TokenBatches

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.arrow"
        write_pairs(path, 30 * bench.tokens // LENGTH, bench.vocabulary)
        table = datasets.Dataset.from_file(str(path))
        batches = TokenBatches(table, tokens_per_batch=bench.tokens, seed=1)
        start = time.perf_counter()
        for rows in batches.plan:
            batches.fetch(rows).to(bench.device)
        yield f"{1000 * (time.perf_counter() - start) / len(batches.plan):.2f} ms a batch"


def write_pairs(path: Path, pairs: int, vocabulary: int) -> None:
    """Random pairs in the format of `datasets`, in chunks of a thousand as `tokenize_pairs` writes them."""
    import pyarrow as pa

    generator = np.random.default_rng(1)
    ids = pa.list_(pa.int32())
    schema = pa.schema({"src": ids, "tgt": ids, "line": pa.int64()})
    lengths = wmt_lengths(pairs)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for first in range(0, pairs, 1000):
            sides = [side[first : first + 1000] for side in lengths]
            columns = [
                pa.ListArray.from_arrays(
                    pa.array(np.r_[0, side.cumsum()].astype(np.int32)),
                    pa.array(generator.integers(4, vocabulary, side.sum()).astype(np.int32)),
                )
                for side in sides
            ]
            lines = pa.array(np.arange(first + 1, first + 1 + len(sides[0])))
            stream.write_batch(pa.record_batch([*columns, lines], schema=schema))


def saving(bench: Bench, size: str) -> Iterator[str]:
    """How long training waits for a checkpoint, and how long its thread writes."""
    state = bench.state(size)
    for parameter in state.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.update_rule.step(torch.ones((), device=bench.device))
    wait_for(bench.device)
    with tempfile.TemporaryDirectory() as folder:
        for state.step in (1, 2):  # the second time, the host memory is already allocated
            start = time.perf_counter()
            snapshot = state.snapshot()
            waited = time.perf_counter() - start
            snapshot.save(Run(Path(folder)), tokenizer_hash="", keep=1, is_best=False)
            spent = time.perf_counter() - start - waited
            yield f"training waits {1000 * waited:.0f} ms, writing takes {spent:.2f} s"


def decoding(bench: Bench, size: str, precision: Precision, beam: int) -> Iterator[str]:
    """Output tokens per second for outputs of a fixed length, ours and those of Hugging Face's Marian."""
    from transformer.testing.parity.hugging_face import from_marian, random_marian

    config = bench.model(size, attention_bias=True, output_bias=True, norm_epsilon=1e-5)
    marian = random_marian(config, "relu").eval()
    model: Any = from_marian(marian, config).to(bench.device).eval()
    freeze(model, precision)
    marian.to(bench.device, getattr(torch, precision))
    longest = [MinLength(LENGTH, config.eos_id)]
    find = greedy_search if beam == 1 else partial(beam_search, beam_size=beam, alpha=0.6)

    def ours() -> None:
        with without_gradients(model):
            find(model, sources, max_length=LENGTH, processors=longest)

    def theirs() -> None:
        with torch.inference_mode():
            marian.generate(
                sources, num_beams=beam, do_sample=False, min_new_tokens=LENGTH, max_new_tokens=LENGTH
            )

    for sentences in (1, 32, 256):
        sources = torch.randint(4, config.vocab_size - 1, (sentences, LENGTH), device=bench.device)
        rates = [
            sentences * LENGTH / seconds_per_call(call, bench.device, seconds=1.0) for call in (ours, theirs)
        ]
        yield (
            f"{sentences:>4} sentences: ours {rates[0]:>9,.0f} tokens/s, "
            f"Hugging Face {rates[1]:>9,.0f}, {rates[0] / rates[1]:.2f} times as fast"
        )


def recipe(bench: Bench, path: str, minutes: float) -> Iterator[str]:
    """Train a recipe for this many minutes, and score it on its test text."""
    from transformer import evaluate, load_settings, train
    from transformer.training.interruption import TrainingStopped
    from transformer.training.log import Event

    with tempfile.TemporaryDirectory() as folder:
        settings = replace(load_settings(path), output=folder, device=str(bench.device))
        timer = Timer(60 * minutes, lambda: signal.raise_signal(signal.SIGTERM))

        def begin(event: Event) -> None:
            if event.name == "data":  # text and model are ready
                timer.start()

        try:
            train(settings, on_event=begin)
            yield "trained to the end"
        except TrainingStopped as stopped:
            yield str(stopped)
        finally:
            timer.cancel()
        yield str(evaluate(folder))
