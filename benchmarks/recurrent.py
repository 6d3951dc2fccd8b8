"""How fast a Transformer and the LSTM of examples/recurrent.py train and translate, on one CPU core.

python benchmarks/recurrent.py [--seconds 10]

Target tokens per second of the process's own time, so that other programs do not count: an update of 110
sentences of 13 tokens, and greedy search for as many, each of 13 tokens. One thread, both models in turn, in
the precision that `auto` picks for training and in float32 for the search, as the package's commands do.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import transformer
from transformer.data.batches import Batch
from transformer.hardware import autocast, choose_precision, training_attention
from transformer.training.loop import accumulate_gradients, make_optimizer
from transformer.training.objectives import translation_loss

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import recurrent

ROWS, LENGTH, VOCABULARY = 110, 13, 1200
CPU = torch.device("cpu")


def make_update(model: torch.nn.Module) -> Callable[[], None]:
    optimizer = make_optimizer(model, transformer.TrainingConfig())
    src_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH))
    tgt_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH + 1))
    batch = Batch(src_tokens, tgt_tokens, np.arange(ROWS), ROWS * LENGTH)

    def update() -> None:
        model.train()
        with autocast(CPU, choose_precision("auto", CPU)), training_attention(CPU):
            accumulate_gradients(translation_loss, model, [batch], 0.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def make_search(model: torch.nn.Module) -> Callable[[], None]:
    src_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH))

    def never_end(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 4:].argmax(dim=1) + 4

    def search() -> None:
        transformer.generate(model.eval(), src_tokens, choose=never_end, max_length=LENGTH)

    return search


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each model and each job")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "num_heads": 4, "d_ff": 512, "num_layers": 2, "dropout": 0.0}
    models = {
        "Transformer": transformer.build_model(transformer.ModelConfig(d_model=128, **sizes)),
        "LSTM with attention": recurrent.build(transformer.ModelConfig(d_model=152, **sizes)),
    }
    precision = choose_precision("auto", CPU)
    print(f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}, {precision}")
    for job, make in (("training", make_update), ("greedy search", make_search)):
        runs = {name: make(model) for name, model in models.items()}
        spent, counts = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0)
        for run in runs.values():
            run()
        while min(spent.values()) < seconds:
            for name, run in runs.items():
                start = time.process_time()
                run()
                spent[name] += time.process_time() - start
                counts[name] += 1
        for name in runs:
            print(f"{job:<16}{name:<22}{ROWS * LENGTH * counts[name] / spent[name]:>10,.0f} target tokens/s")


if __name__ == "__main__":
    main()
