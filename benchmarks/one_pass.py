"""Speed of classifying, embedding and scoring, which need one forward pass: ours and Hugging Face's.

    python benchmarks/one_pass.py [--batches 1 1024t] [--threads 1] [--rounds 5]

There are two comparisons on a CPU, in float32 and bfloat16. A small encoder (d 256, 4 heads, d_ff 1024, 3
layers, vocabulary 10,000), used as a classifier and as a sentence embedder, is compared with Hugging Face's
BERT with the same weights. Scoring given translations with a small Marian model is compared with Hugging
Face's logits, followed by torch's cross-entropy of each token. On our side, this runs the functions that
`transformer classify`, `embed` and `score` call after tokenization. Both sides get the same batches of random
sentences of about 15 tokens. A batch is a number of sentences or, with a `t`, of tokens including padding.
The systems take turns. Prints sentences per second: the medians over the rounds, and the median of the
rounds' ratios. Also prints the largest difference between the outputs. Needs the extra `dev`.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import machine
from torch import Tensor, nn

from transformer.config import DecodingConfig, ModelConfig, Precision, Settings
from transformer.data.padding import right_padded
from transformer.data.token_budget import longest_first
from transformer.decoding.inference import freeze
from transformer.decoding.predictors import Reader
from transformer.decoding.scoring import pair_lengths, score_pairs
from transformer.hardware import DTYPES
from transformer.kernels.allocator import keep_freed_memory
from transformer.model.heads import SentenceEmbedder, SequenceClassifier, mean_over_tokens
from transformer.testing.parity.hugging_face import from_bert, from_marian, random_bert, random_marian

CONFIG = ModelConfig(
    vocab_size=10_000,
    d_model=256,
    num_heads=4,
    d_ff=1024,
    num_layers=3,
    dropout=0.0,
    attention_bias=True,
    output_bias=True,
    max_positions=512,
)
ENCODER = replace(CONFIG, kind="encoder_only", positions="learned", activation="gelu")
CLASSES, SENTENCES = 6, 512
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

Work = Callable[[Sequence[int]], Tensor]
"""Computes the outputs of a batch, given as numbers of sentences."""


class Compared(NamedTuple):
    """A computation by two systems, and the lengths by which its sentences are batched."""

    name: str
    ours: Work
    theirs: Work
    lengths: list[int]


def random_sentences(seed: int) -> list[list[int]]:
    """Ids that end in EOS, with the lengths of captions."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(generator.normal(15, 4, SENTENCES), 4, 40).astype(int)
    return [[*generator.integers(4, 9_999, length).tolist(), 2] for length in lengths]


# Encoders


def our_reader(model: nn.Module, precision: Precision, sentences: list[list[int]]) -> Work:
    """`Reader.outputs`, which the commands call, so that all given sentences are one batch."""
    freeze(model, precision)
    settings = Settings(output="unused", model=ENCODER, decoding=DecodingConfig(batch_tokens=10**9))
    reader = Reader(model, None, settings)  # type: ignore[arg-type]  # the sentences are tokenized already

    def work(rows: Sequence[int]) -> Tensor:
        [(order, outputs)] = reader.outputs([np.array(sentences[row]) for row in rows])
        return outputs[torch.tensor(order).argsort()]

    return work


def their_reader(bert: Any, head: Callable[[Tensor, Tensor], Tensor], sentences: list[list[int]]) -> Work:
    def work(rows: Sequence[int]) -> Tensor:
        tokens = right_padded([sentences[row] for row in rows])
        with torch.inference_mode():
            hidden = bert(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
            return head(hidden, tokens).float()

    return work


def encoders(precision: Precision) -> list[Compared]:
    sentences = random_sentences(1)
    bert = random_bert(ENCODER)
    classifier = SequenceClassifier(from_bert(bert, ENCODER), CLASSES).eval()  # type: ignore[arg-type]
    embedder = SentenceEmbedder(copy.deepcopy(classifier.encoder)).eval()
    output = copy.deepcopy(classifier.output).to(DTYPES[precision])
    bert = bert.to(DTYPES[precision])

    def classes(hidden: Tensor, tokens: Tensor) -> Tensor:
        return output(mean_over_tokens(hidden, tokens, 0).to(output.weight.dtype))

    def vectors(hidden: Tensor, tokens: Tensor) -> Tensor:
        return F.normalize(mean_over_tokens(hidden, tokens, 0), dim=1)

    lengths = list(map(len, sentences))
    return [
        Compared(
            name,
            our_reader(model, precision, sentences),
            their_reader(bert, head, sentences),
            lengths,
        )
        for name, model, head in (("classify", classifier, classes), ("embed", embedder, vectors))
    ]


# Scores


def scoring(precision: Precision) -> Compared:
    sources, targets = random_sentences(2), [row[:-1] for row in random_sentences(3)]
    marian = random_marian(CONFIG, "relu")
    model = from_marian(marian, CONFIG)
    freeze(model, precision)
    marian = marian.to(DTYPES[precision])
    pad = marian.config.pad_token_id

    def ours(rows: Sequence[int]) -> Tensor:
        pairs = [sources[row] for row in rows], [targets[row] for row in rows]
        return torch.tensor([score.total for score in score_pairs(model, *pairs, batch_tokens=10**9)])

    def theirs(rows: Sequence[int]) -> Tensor:
        source = right_padded([sources[row] for row in rows], pad)
        labels = right_padded([[*targets[row], 2] for row in rows], pad)
        with torch.inference_mode():
            logits = marian(
                input_ids=source,
                attention_mask=(source != pad).long(),
                decoder_input_ids=marian.prepare_decoder_input_ids_from_labels(labels),
                use_cache=False,
            ).logits
            losses = F.cross_entropy(logits.mT, labels, ignore_index=pad, reduction="none")
            return -losses.float().sum(dim=1)

    return Compared("score", ours, theirs, pair_lengths(sources, targets))


# Measuring


def in_batches(lengths: list[int], batch: str) -> list[list[int]]:
    """Batches sorted by length, as in the commands; single sentences are only an eighth of the text."""
    if batch.endswith("t"):
        return longest_first(lengths, int(batch[:-1]))
    found = longest_first(lengths, 10**9, max_rows=int(batch))
    return found[:: 8 if batch == "1" else 1]


def print_row(compared: Compared, precision: Precision, batch: str, rounds: int) -> None:
    batches = in_batches(compared.lengths, batch)
    count = sum(map(len, batches))
    found = [[work(rows) for rows in batches] for work in (compared.ours, compared.theirs)]  # warm-up
    difference = max(float((mine - other).abs().max()) for mine, other in zip(*found, strict=True))
    rates: list[list[float]] = [[], []]
    for _ in range(rounds):
        for work, measured in zip((compared.ours, compared.theirs), rates, strict=True):
            start = time.perf_counter()
            for rows in batches:
                work(rows)
            measured.append(count / (time.perf_counter() - start))
    ratio = median(ours / theirs for ours, theirs in zip(*rates, strict=True))
    print(
        f"{compared.name:<10}{precision:<10}{batch:>6}{median(rates[0]):>9,.0f}{median(rates[1]):>9,.0f}"
        f"{ratio:>7.2f}{difference:>11.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", default=["1", "1024t"], help="sizes of batches")
    parser.add_argument("--threads", type=int, default=1, help="threads of both systems")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each system, in turn")
    options = parser.parse_args()
    import transformers

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    print(f"{machine(torch.device('cpu'))}, transformers {transformers.__version__}")
    print(f"{'':<10}{'':<10}{'batch':>6}{'ours':>9}{'HF':>9}{'ratio':>7}{'difference':>12}")
    for precision in PRECISIONS:
        for compared in (*encoders(precision), scoring(precision)):
            for batch in options.batches:
                print_row(compared, precision, batch, options.rounds)


if __name__ == "__main__":
    main()
