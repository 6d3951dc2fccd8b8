"""Train a small Transformer on the built-in corpus and translate with it: the public API on one page.

python examples/minimal.py [UPDATES]     1,000 by default: about a minute and a half on two CPU cores
"""

import sys
import tempfile

import transformer

SENTENCES = [
    "The old man buys a red apple.",
    "Does the girl read the book?",
    "The boy is tired because he has not slept.",
]


def main() -> None:
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        settings = transformer.Settings(
            output=folder,
            model=transformer.ModelConfig(d_model=128, num_heads=4, d_ff=512, num_layers=3, dropout=0.0),
            data=transformer.DataConfig(train="toyland:train[:50000]", vocab_size=1200),
            training=transformer.TrainingConfig(
                max_steps=updates,
                warmup_steps=updates // 4,
                rate_scale=0.5,
                cooldown=0.5,
                label_smoothing=0.0,
                tokens_per_batch=1500,
                valid_sample=0,
            ),
        )
        transformer.train(settings)
        translator = transformer.Translator.from_pretrained(folder)

    for sentence, translation in zip(SENTENCES, translator.translate(SENTENCES), strict=True):
        print(f"{sentence:45} {translation}")

    # When the model predicts the third word of the first translation, which cross-attention head puts the
    # most weight on a single source piece? The shape of `module.weights` is (heads, target, source).
    found = transformer.inspect(translator, SENTENCES[0])
    source, target = found.axes["source"], found.axes["target"]
    word = min(2, len(target.words) - 1)
    row = target.word_of.index(word)
    weight, column, head = max(
        (*map(float, weights[row, :-1].max(dim=0)), f"{module.layer}.{number}")  # without the source's EOS
        for module in found.attention
        if module.kind == "cross"
        for number, weights in enumerate(module.weights, start=1)
    )
    looked_at = source.words[source.word_of[int(column)]]
    print(f"\npredicting “{target.words[word]}”, head {head} looks at “{looked_at}”: {weight:.2f}")


if __name__ == "__main__":
    main()
