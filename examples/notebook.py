# %% [markdown]
# # A Transformer in ten minutes
#
# Train a small English-German model on the built-in toy language, look at its attention, swap a part and look
# again. VS Code and PyCharm run this file cell by cell; `jupytext --to notebook` converts it to an `.ipynb`.

# %%
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib import pyplot

import transformer
from transformer.inspection.figures import draw_attention

UPDATES = 1_000  # a minute or two on a laptop; after 3,000 updates, almost all translations are correct
RUNS = Path("runs/notebook")
SENTENCE = "The old man buys a red apple."

# %% [markdown]
# ## Train

# %%
settings = transformer.Settings(
    output=str(RUNS / "paper"),
    model=transformer.ModelConfig(d_model=128, num_heads=4, d_ff=512, num_layers=3, dropout=0.0),
    data=transformer.DataConfig(train="toyland:train[:50000]", vocab_size=1200),
    training=transformer.TrainingConfig(
        max_steps=UPDATES,
        warmup_steps=UPDATES // 4,
        rate_scale=0.5,
        cooldown=0.5,
        label_smoothing=0.0,
        tokens_per_batch=1500,
        save_every=UPDATES,
    ),
)
transformer.train(settings, resume=True)  # running the cell again does not train again
translator = transformer.Translator.from_pretrained(RUNS / "paper")
print(translator.translate([SENTENCE]))

# %% [markdown]
# ## Look
#
# In `cross.png`, each row is a German word that is being predicted; all other rows and columns are English.


# %%
def draw(translator: transformer.Translator, kind: str, name: str) -> None:
    found = transformer.inspect(translator, SENTENCE)
    figure, panels = pyplot.subplots(2, 2, figsize=(9, 9), layout="constrained")
    for head, axes in enumerate(panels.flat, start=1):
        draw_attention(found, axes, kind=kind, layer=3, head=head)
    figure.savefig(RUNS / f"{name}.png")


draw(translator, "cross", "cross")
draw(translator, "encoder", "encoder")

# %% [markdown]
# ## Swap a part
#
# What if each word attended mainly to its neighbours? Every part is an object: override the method that makes
# the part. Here, the distance between two words, multiplied by a factor, is subtracted from their attention
# score; the factor is larger in the first head than in the last (ALiBi; Press et al., 2022).


# %%
class Nearby(transformer.MultiHeadAttention):
    def score_bias(self, q, positions, length):
        if positions is None:  # cross-attention: there is no distance between source and target words
            return None
        distance = (positions[:, :, None] - torch.arange(length, device=q.device)).abs()  # (B, T, S)
        slopes = 2.0 ** -torch.arange(self.num_heads, device=q.device)  # 1, 1/2, 1/4, ...
        return -slopes[:, None, None] * distance[:, None]  # (B, H, T, S)


class Builder(transformer.ModelBuilder):
    def attention(self):
        return super().attention(Nearby)


def build(config):
    return Builder(config).build()


# %% [markdown]
# ## Train it, and look again
#
# Compare `encoder.png` with `nearby.png`: the first heads now stay close to the diagonal. Is the new model
# better? Both runs have validation losses in their `log.jsonl`. For two models without custom parts,
# `transformer compare` also tests whether the difference between their runs is significant.

# %%
changed = transformer.train(replace(settings, output=str(RUNS / "nearby")), build=build, resume=True)
other = transformer.Translator.from_pretrained(changed, build=build)
print(other.translate([SENTENCE]))
draw(other, "encoder", "nearby")
