"""The speed and quality of a Transformer and of the LSTM in examples/recurrent.py.

python benchmarks/recurrent.py [--seconds 10]
python benchmarks/recurrent.py --updates 1000 [--seeds 3] [--output runs/recurrent]

Speed: target tokens per second of CPU time, which other programs on the machine hardly change. It is measured
for an update with 110 sentences of 13 tokens, and for greedy search of 110 translations of 13 tokens, with
one thread and the models taking turns. As in the commands, training uses the precision that `auto` picks, and
the search uses float32.

Quality, with --updates: both models are trained on the same batches of 20,000 toyland pairs. Prints, for each
seed, loss and exact match on 200 unseen sentences with greedy search. Existing runs are reused.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import transformer
from transformer.data.batches import Batch
from transformer.hardware import choose_precision
from transformer.kernels.allocator import keep_freed_memory
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.translation import TranslationLoss
from transformer.training.loop import accumulate_gradients
from transformer.training.objectives import in_precision
from transformer.training.optimizer import make_optimizers
from transformer.training.update_rule import UpdateRule

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import recurrent
from demonstration import toyland_settings

ROWS, LENGTH, VOCABULARY = 110, 13, 1200
CPU = torch.device("cpu")


def make_update(model: torch.nn.Module) -> Callable[[], None]:
    rule = UpdateRule(model, make_optimizers(model, transformer.TrainingConfig()), schedule=lambda _: 0.0)
    rule.set_rate(1)
    src_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH))
    tgt_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH + 1))
    batch = Batch(src_tokens, tgt_tokens, np.arange(ROWS), ROWS * LENGTH)
    objective = in_precision(
        TranslationLoss(0.0, cross_entropy=overwriting_cross_entropy), CPU, choose_precision("auto", CPU)
    )

    def update() -> None:
        model.train()
        accumulate_gradients(objective, model, [batch])
        rule.step(torch.ones(()))

    return update


def make_search(model: torch.nn.Module) -> Callable[[], None]:
    src_tokens = torch.randint(4, VOCABULARY, (ROWS, LENGTH))

    def never_end(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, 4:].argmax(dim=1) + 4

    def search() -> None:
        transformer.generate(model.eval(), src_tokens, choose=never_end, max_length=LENGTH)

    return search


def quality(updates: int, seeds: int, output: Path) -> None:
    """Each model at the best of three rates, as in examples/recurrent.py."""
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "Transformer": (transformer.build_model, {}),
        "LSTM with attention": (recurrent.build, {"d_model": 152, "rate_scale": 1.0}),
    }
    print(f"{updates:,} updates\n{'model':<22}{'seed':>5}{'loss':>9}{'exact match':>14}{'seconds':>9}")
    for seed in range(1, seeds + 1):
        for name, (build, options) in models.items():
            folder = output / f"{name.split()[0].lower()}_{updates}_{seed}"
            settings = toyland_settings(str(folder), updates, valid_sample=200, **options)
            run = transformer.train(replace(settings, seed=seed), build=build, resume=True)
            log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
            valid = [event for event in log if event["event"] == "valid"][-1]
            seconds = sum(
                event["tokens"] / event["tokens_per_second"] for event in log if event["event"] == "train"
            )
            print(
                f"{name:<22}{seed:>5}{valid['loss']:>9.3f}{valid['exact_match']:>12.1f} %{seconds:>9.0f}",
                flush=True,
            )


def speed(seconds: float) -> None:
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


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each model and each job")
    parser.add_argument("--updates", type=int, help="measure quality after this many updates")
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each model")
    parser.add_argument("--output", type=Path, default=Path("runs/recurrent"), help="folder of the runs")
    options = parser.parse_args()
    if options.updates:
        print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        quality(options.updates, options.seeds, options.output)
    else:
        speed(options.seconds)


if __name__ == "__main__":
    main()
