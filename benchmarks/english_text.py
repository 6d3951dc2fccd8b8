"""All English sentences at hand, and some German ones, in one file for masked language models.

TRANSFORMER_DATA=data python benchmarks/english_text.py data/english.txt

Writes the training texts of `SOURCES` and the training sentences of TREC and SST-2, without their labels: one
sentence per line, no line twice, in an order that is random but always the same. German is there so that the
vocabulary also suits the retrieval of translations. No test text is read.
"""

import argparse
import os
import random
from collections.abc import Iterator
from pathlib import Path

from transformer.data.sentences import read_sentences
from transformer.data.text import read_lines
from transformer.files import write_whole

SOURCES = (
    "tatoeba_en_de/train.en.xz",
    "tatoeba_en_fr/train.en.xz",
    "kftt_ja_en/train.en.xz",
    "europarl_en_de_20k/train.en.xz",
    "hansard_en_fr/train.en.xz",
    "multi30k/train.en",
    "multi30k/train.de",
    "tatoeba_en_de/train.de.xz",
    "europarl_en_de_20k/train.de.xz",
)
LABELLED = {"trec/train.txt": "colon", "sst2/train.tsv": "tab"}
"""Files of labelled sentences and their `data.label_format`."""


def sentences(folder: Path) -> Iterator[str]:
    for name in SOURCES:
        yield from read_lines(folder / name)
    for name, label_format in LABELLED.items():
        yield from (sentence.text for sentence in read_sentences(str(folder / name), label_format))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="file that is written")
    output = parser.parse_args(arguments).output
    different = dict.fromkeys(sentences(Path(os.environ.get("TRANSFORMER_DATA", "data"))))
    lines = [sentence for sentence in different if sentence.strip()]
    random.Random(1).shuffle(lines)
    write_whole(output, "".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
