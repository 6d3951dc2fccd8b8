"""How well attention aligns words: the alignment error rate on toyland, whose alignments are known.

    python benchmarks/alignment.py --run runs/toyland [--sentences 400]

Aligns toyland's references by forced decoding: with the attention of the decoder's last layer, with that of
its last two layers, and so on.
"""

import argparse

from transformer.decoding.alignment import align, alignment_error_rate
from transformer.decoding.translator import Translator
from transformer.toyland import generate
from transformer.toyland.alignment import alignments


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True)
    parser.add_argument("--sentences", type=int, default=400)
    options = parser.parse_args()
    translator = Translator.from_pretrained(options.run, device="cpu")
    examples = list(generate("test", options.sentences))
    gold = [alignments(example) for example in examples]
    sources = translator.encode([example.source for example in examples])
    targets = translator.tokenizer.encode_target([example.target for example in examples])
    for layers in range(1, len(translator.model.decoder.blocks) + 1):  # type: ignore[arg-type]
        found = align(translator.model, translator.tokenizer, sources, targets, layers=layers)
        print(f"last {layers} layers: alignment error rate {100 * alignment_error_rate(found, gold):.1f} %")
    diagonal = [
        [(min(word, len(source) - 1), word) for word in range(len(example.target.split()))]
        for example in examples
        for source in [example.source.split()]
    ]
    print(f"word by word, in order: {100 * alignment_error_rate(diagonal, gold):.1f} %")


if __name__ == "__main__":
    main()
