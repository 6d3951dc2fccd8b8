"""Compute equation 1 for "Cat eats fish", with the numbers of docs/attention_by_hand.md.

python examples/attention_by_hand.py [--picture attention_by_hand.svg]
"""

import argparse
import math

import torch

import transformer

WORDS = ("Cat", "eats", "fish")
COLOURS = ("#0072b2", "#e69f00", "#009e73")  # colour-blind readers can tell these colours apart
QUERY = torch.tensor([1.0, 0.0])
KEYS = torch.tensor([[0.74, 0.0], [0.38, 0.0], [0.50, 0.0]])
VALUES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", metavar="FILE", help="draw weights and values: .svg, .png or .pdf")
    options = parser.parse_args()
    q, k, v = (x.reshape(1, 1, -1, 2) for x in (QUERY, KEYS, VALUES))  # one sentence, one head
    products = KEYS @ QUERY
    weights = transformer.attention_weights(q, k).flatten()
    output = transformer.attention(q, k, v).flatten()
    print("word   q · k   / √d_k   weight")
    for word, product, weight in zip(WORDS, products, weights, strict=True):
        print(f"{word:<5}  {product:5.2f}  {product / math.sqrt(2):7.2f}  {weight:7.2f}")
    print(f"output ({output[0]:.2f}, {output[1]:.2f})")
    if options.picture:
        draw(weights, options.picture)


def draw(weights: torch.Tensor, path: str) -> None:
    """Draw the weights (left), and the weighted values as arrows that add up to the output (right)."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    left.bar(WORDS, weights.tolist(), color=COLOURS)
    for place, weight in enumerate(weights.tolist()):
        left.text(place, weight + 0.01, f"{weight:.2f}", ha="center")
    left.set(title="weights", ylim=(0, 0.5))
    start = torch.zeros(2)
    places = ((0.1, 0.02), (0.4, 0.14), (0.5, 0.36))
    for word, colour, weight, value, place in zip(WORDS, COLOURS, weights, VALUES, places, strict=True):
        end = start + weight * value
        style = {"arrowstyle": "-|>", "color": colour, "lw": 2.5, "shrinkA": 0, "shrinkB": 0}
        right.annotate("", xy=end.tolist(), xytext=start.tolist(), arrowprops=style)
        right.text(*place, f"{weight:.2f} · {word}", color=colour)
        start = end
    right.plot(*start.tolist(), "o", color="black")
    right.text(*(start + 0.025).tolist(), f"output ({start[0]:.2f}, {start[1]:.2f})")
    right.set(title="weighted values, added up", xlim=(0, 0.9), ylim=(0, 0.6), aspect="equal")
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


if __name__ == "__main__":
    main()
