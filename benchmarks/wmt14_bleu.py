"""How far one output's BLEU differs between sacreBLEU and the paper's procedure, on newstest2014.

python benchmarks/wmt14_bleu.py [--data data/wmt_newstest/newstest2014-ende] [--outputs FILE]

`--outputs` is a system's output, one line a sentence. Without it, the program scores a text that no system
has written: the reference with so many words disturbed that sacreBLEU gives it about as much as the paper's
models. In equal shares, these words are left out, exchanged with the next one, or replaced by a word from
elsewhere in the reference. Needs the extra `moses`.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import sacrebleu

from transformer.data.text import read_lines
from transformer.evaluation.bleu import make_bleu
from transformer.evaluation.compounds import COMPOUND, paper_words
from transformer.evaluation.metrics import tokenized_bleu

SHARE, SEED = 0.43, 14


def disturbed(lines: Sequence[str], share: float, seed: int) -> list[str]:
    """The lines with this share of their words left out, exchanged with the next one or replaced."""
    generator = random.Random(seed)
    words = [word for line in lines for word in line.split()]

    def disturb(line: str) -> str:
        left, done = line.split(), list[str]()
        while left:
            word = left.pop(0)
            change = generator.choice(("drop", "exchange", "replace")) if generator.random() < share else None
            if change == "exchange" and left:
                done += [left.pop(0), word]
            elif change == "replace":
                done.append(generator.choice(words))
            elif change != "drop":
                done.append(word)
        return " ".join(done)

    return [disturb(line) for line in lines]


def row(name: str, outputs: Sequence[str], references: Sequence[str], language: str) -> str:
    """A line of the table: sacreBLEU, Moses tokens, and Moses tokens with compounds split."""
    import sacremoses

    moses = sacremoses.MosesTokenizer(lang=language)
    plain = make_bleu("13a").corpus_score(outputs, [references]).score
    tokens, _ = tokenized_bleu(
        outputs, references, lambda line: moses.tokenize(line, escape=False, return_str=True)
    )
    split, _ = tokenized_bleu(outputs, references, paper_words(language))
    return f"| {name} | {plain:.2f} | {tokens:.2f} | {split:.2f} | {split - plain:+.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data/wmt_newstest/newstest2014-ende", help="path without .de")
    parser.add_argument("--target", default="de", help="language of the reference")
    parser.add_argument("--outputs", type=Path, help="a system's output (default: the disturbed reference)")
    parser.add_argument("--share", type=float, default=SHARE, help="share of disturbed words")
    options = parser.parse_args()
    references = list(read_lines(Path(f"{options.data}.{options.target}")))
    print(f"sacrebleu {sacrebleu.__version__}; {len(references):,} lines, of which", end=" ")
    print(f"{sum(bool(COMPOUND.search(line)) for line in references):,} have a hyphen inside a word\n")
    print("| output | sacreBLEU | Moses tokens | compounds split | difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    if options.outputs:
        name, outputs = options.outputs.name, list(read_lines(options.outputs))
    else:
        name = f"the reference, {100 * options.share:g} % of the words disturbed"
        outputs = disturbed(references, options.share, SEED)
    print(row(name, outputs, references, options.target))


if __name__ == "__main__":
    main()
