"""Compares a model trained by Marian itself with the converted run: log-probabilities and translations.

python benchmarks/marian.py [--folder DIR] [--updates 1000] [--d-model 128] [--layers 3]

Trains a model with the C++ program of the package `pymarian` on one CPU thread: on Multi30k English to
German, with OPUS-MT's options but smaller sizes and rates, and with two SentencePiece models of 4,000 pieces.
Then converts Marian's own files twice: with Marian's numbers, and with those of transformers. Each time,
compares 200 test lines: the log-probability of the reference, and the translations without a length penalty.
If DIR has a model already, there is no training. `TRANSFORMER_DATA` names the folder that contains
`multi30k`.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import sentencepiece
import torch
import yaml

from transformer.convert.marian import from_marian
from transformer.convert.marian_programs import PROGRAMS, ProgramName
from transformer.data.corpus import load_parallel
from transformer.decoding.translator import Translator

LINES = 200
BEAMS = (4, 1)
LIMIT = 3
"""Marian's largest ratio of a translation's length to its source's."""
MODEL = "model.npz"
VOCABULARIES = ("--vocabs", "vocab.yml", "vocab.yml")
OPTIONS = """
    --type transformer --transformer-heads 8 --transformer-postprocess-emb d --transformer-postprocess dan
    --transformer-dropout 0.1 --tied-embeddings-all --label-smoothing 0.1 --optimizer-params 0.9 0.98 1e-09
    --learn-rate 0.001 --lr-warmup 300 --lr-decay-inv-sqrt 300 --clip-norm 5 --exponential-smoothing
    --mini-batch 64 --maxi-batch 100 --max-length 100 --seed 1111 --overwrite
"""


class Comparison(NamedTuple):
    """The results of our run and of Marian on the same lines."""

    largest: float
    """The largest difference between the two log-probabilities of a reference."""
    mean: float
    equal: dict[int, int]
    """The number of equal translations, by beam size."""
    ended: dict[int, int]
    """The number of translations that were compared: Marian has a lower limit, and cut the others."""


def marian(folder: Path, *arguments: str) -> str:
    """Run one of Marian's commands in its own process, because an error ends the process."""
    program = "import sys, _pymarian; _pymarian.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *arguments, "--cpu-threads", "1", "--workspace", "1000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return done.stdout.decode()


def write_corpus(folder: Path, train: dict[str, list[str]], vocab_size: int) -> None:
    """SentencePiece models and a joint vocabulary of the pieces that occur, as OPUS-MT makes them."""
    pieces: set[str] = set()
    for side, lines in train.items():
        model = BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=vocab_size, minloglevel=2
        )
        (folder / f"{side}.spm").write_bytes(model.getvalue())
        pieces.update(*write_pieces(folder, "train", side, lines))
    vocabulary = {piece: number for number, piece in enumerate(["</s>", "<unk>", *sorted(pieces)])}
    (folder / "vocab.yml").write_text(yaml.safe_dump(vocabulary, allow_unicode=True, sort_keys=False))


def write_pieces(folder: Path, name: str, side: str, lines: list[str]) -> list[list[str]]:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
    pieces = processor.encode(lines, out_type=str)
    (folder / f"{name}.{side}").write_text("".join(f"{' '.join(row)}\n" for row in pieces), encoding="utf-8")
    return pieces


def train_marian(folder: Path, *, updates: int, d_model: int, layers: int) -> None:
    sizes = {"dim-emb": d_model, "transformer-dim-ffn": 4 * d_model, "enc-depth": layers, "dec-depth": layers}
    marian(
        folder,
        "train",
        *("--model", MODEL, "--train-sets", "train.source", "train.target", *VOCABULARIES, *OPTIONS.split()),
        *(word for name, size in sizes.items() for word in (f"--{name}", str(size))),
        *("--after-batches", str(updates), "--tempdir", "."),
    )


def compare(folder: Path, program: ProgramName, sources: list[str], references: list[str]) -> Comparison:
    """Marian and our run of its files, with the numbers of `program`."""
    pieces = write_pieces(folder, "test", "source", sources)
    write_pieces(folder, "test", "target", references)
    model = ("-m", MODEL, *VOCABULARIES, "--quiet")
    expected = [
        float(line) for line in marian(folder, "score", *model, "-t", "test.source", "test.target").split()
    ]
    with TemporaryDirectory() as output:
        run = from_marian(folder, f"{output}/run", trained_with=program)
        translator = Translator.from_pretrained(run, device="cpu")
    scores = [score.total for score in translator.score(sources, references)]
    differences = [abs(ours - theirs) for ours, theirs in zip(scores, expected, strict=True)]
    equal, ended = {}, {}
    for beam_size in BEAMS:
        search = ("--beam-size", str(beam_size), "--normalize", "0", "-i", "test.source")
        theirs = [line.split() for line in marian(folder, "decode", *model, *search).splitlines()]
        ours = translator.translate(sources, beam_size=beam_size, alpha=0.0)
        compared = [
            text == text_of(output)
            for text, output, source in zip(ours, theirs, pieces, strict=True)
            if len(output) < LIMIT * (len(source) + 1)  # Marian counts EOS
        ]
        equal[beam_size], ended[beam_size] = sum(compared), len(compared)
    return Comparison(max(differences), sum(differences) / len(differences), equal, ended)


def text_of(pieces: list[str]) -> str:
    return "".join(pieces).replace("▁", " ").strip()


def report(name: str, found: Comparison) -> None:
    print(f"with the numbers of {name}:")
    print(f"  log-probabilities: largest difference {found.largest:.1e}, mean {found.mean:.1e}")
    for beam_size, equal in found.equal.items():
        ended = found.ended[beam_size]
        print(f"  beam {beam_size}: {equal} of {ended} translations are equal, {LINES - ended} were cut")


def texts(path: str, lines: int | None = None) -> dict[str, list[str]]:
    table = load_parallel(path, "en", "de")
    return {side: list(table[side])[:lines] for side in ("source", "target")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", help="where to train, or where a model is (default: a temporary folder)")
    parser.add_argument("--updates", type=int, default=1000, help="number of updates")
    parser.add_argument(
        "--d-model", type=int, default=128, help="width; the inner layers are 4 times as wide"
    )
    parser.add_argument("--layers", type=int, default=3, help="layers of each stack")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    corpus = f"{os.environ['TRANSFORMER_DATA']}/multi30k"
    with TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        if not (folder / MODEL).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_corpus(folder, texts(f"{corpus}/train"), vocab_size=4000)
            train_marian(folder, updates=options.updates, d_model=options.d_model, layers=options.layers)
        print(f"{platform.machine()}, one thread, torch {torch.__version__}, pymarian {version('pymarian')}")
        test = texts(f"{corpus}/test_2016_flickr", LINES)
        for program in PROGRAMS:
            report(program, compare(folder, program, test["source"], test["target"]))


if __name__ == "__main__":
    main()
