"""Train a small Transformer on the built-in corpus and translate with it: the public API on one page.

python examples/minimal.py [UPDATES]     1,000 by default: about a minute and a half on two CPU cores
"""

import sys
import tempfile

import torch

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

    # Attention weights of the decoder, layer by layer: rows are target tokens, columns source tokens.
    tokens = torch.tensor(translator.encode(SENTENCES[:1], first_line=1))
    with transformer.record_attention(translator.model) as weights:
        found = transformer.greedy_search(translator.model, tokens, max_length=20)
    print(f"\nlog-probability of the greedy translation: {float(found.scores[0, 0]):.2f}")
    for name, table in weights.items():
        print(f"{name:32} {tuple(table.shape)}")


if __name__ == "__main__":
    main()
