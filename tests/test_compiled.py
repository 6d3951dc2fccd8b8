"""Compiled code is a single graph without breaks, compiled once for batches and steps of all sizes.

The tests run in separate processes without the run-time shape checks, because compiling breaks them.
"""

import os
import subprocess
from pathlib import Path

import pytest
from fork_server import python

COUNTING = """
import sys
from functools import partial
import torch
from helpers import random_rows, right_padded, tiny_config, tiny_model
GRAPHS = []
def keep(graph, _):
    GRAPHS.append(graph)
    return graph
torch.manual_seed(0)
compiled = partial(torch.compile, backend=keep, fullgraph=True)  # a break is an error
def rows(*lengths, **options):
    return right_padded(random_rows(*lengths, **options))
"""

UPDATES = """
import numpy as np
from transformer.config import DataConfig, Settings
from transformer.data.batches import Batch
from transformer.data.masking import MaskedBatch
from transformer.data.running_text import TextBatch
from transformer.data.sentences import LabelledBatch
from transformer.tasks.registry import TASKS
from transformer.tasks.task import task_class
from transformer.training import objectives
from transformer.training.loop import accumulate_gradients

objectives.torch.compile = compiled
task, precision = sys.argv[1:]
kind = TASKS[task].kind
settings = Settings(task=task, model=tiny_config(kind=kind), data=DataConfig(classes="a,b"))
model = task_class(task).head(tiny_model(kind=kind), settings).train()
plain = task_class(task).objective(settings)
both = plain, objectives.CompiledObjective(plain)

def gradients(objective, step, batch):
    objective = objectives.objective_at(objective, step)
    objective = objectives.in_precision(objective, torch.device("cpu"), precision)
    model.zero_grad()
    loss = accumulate_gradients(objective, model, [batch], tokens=100 + step)
    return [loss.total, *(weight.grad for weight in model.parameters())]

for step in range(20):
    count = 20 + step % 7  # not the size of anything else, which a compiler may take for the same
    tokens = rows(*torch.randint(2, 4 + step, (count,)).tolist(), first=1)
    source = rows(*torch.randint(1, 15, (count,)).tolist())
    real = int((tokens[:, 1:] != 0).sum())
    places = source.flatten().nonzero()[:, 0]
    batch = {
        "translation": lambda: Batch(source, tokens, np.arange(count), real),
        "sentence_embedding": lambda: Batch(source, tokens, np.arange(count), real),
        "language_model": lambda: TextBatch(tokens, real),
        "masked_language_model": lambda: MaskedBatch(source, places, source.flatten()[places]),
        "classification": lambda: LabelledBatch(source, torch.arange(count) % 2, count),
    }[task]()
    found, expected = (gradients(objective, step, batch) for objective in reversed(both))
    tolerance = 1e-4 if precision == "float32" else 0.05
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
assert len(GRAPHS) == 1, GRAPHS
"""

STEPS = """
kind, lengths = sys.argv[1], map(int, sys.argv[2:])
model = tiny_model(kind=kind)
step, read = compiled(model.step, dynamic=True), rows(*lengths)
with torch.no_grad():
    states = [model.prefill(read, max_length=30)[1] for _ in range(2)]
    for _ in range(20):
        tokens = torch.randint(3, 13, (3,))
        found, expected = step(tokens, states[0]), model.step(tokens, states[1])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        chosen = torch.randint(0, 3, (3, 1))  # as a beam search does between two steps
        states = [state.select_beams(chosen, None) for state in states]
assert len(GRAPHS) == 1, GRAPHS
"""


def run(program, *arguments):
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [python(), "-c", COUNTING + program, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_update_is_one_graph_with_its_loss_for_batches_of_every_shape():
    run(UPDATES, "translation", "bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "precision"),
    [
        ("translation", "float32"),
        ("language_model", "bfloat16"),
        ("masked_language_model", "bfloat16"),
        ("classification", "bfloat16"),
        ("sentence_embedding", "bfloat16"),
    ],
)
def test_so_it_is_for_every_task(task, precision):
    run(UPDATES, task, precision)


def test_a_decode_step_is_one_graph_for_every_position():
    run(STEPS, "encoder_decoder", "6", "4", "3")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder_decoder", "decoder_only"])
@pytest.mark.parametrize("lengths", [("6", "6", "6"), ("6", "4", "3")], ids=["whole", "padded"])
def test_so_it_is_for_every_model(kind, lengths):
    run(STEPS, kind, *lengths)
