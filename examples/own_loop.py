"""Training without `train()`: text, tokenizer, batches, model, loss, optimizer and loop, one by one.

python examples/own_loop.py [UPDATES]     500 by default: about half a minute on one CPU core

`transformer.train` runs the same loop, and adds a log, checkpoints and resuming, several processes, bfloat16,
and clear errors when something goes wrong.
"""

import sys
from dataclasses import replace

import torch

import transformer
from transformer.data.batches import TokenBatches
from transformer.data.corpus import load_parallel
from transformer.data.tokenizers.sentence_piece import train_tokenizer
from transformer.data.tokenizing import tokenize_pairs
from transformer.evaluation.validation import mean_loss
from transformer.tasks.translation import TranslationLoss
from transformer.training.distributed import ALONE
from transformer.training.loop import accumulate_gradients, clip_gradients
from transformer.training.schedule import learning_rate

SENTENCES = ["The old man buys a red apple.", "Does the girl read the book?", "The boy is tired."]

# The settings of the training loop, including the warm-up and cool-down of the learning rate.
training = transformer.TrainingConfig(
    max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 500,
    warmup_steps=100,
    rate_scale=0.5,
    cooldown=0.5,
    tokens_per_batch=1000,
    max_norm=1.0,
    log_every=50,
    valid_every=100,
)
torch.manual_seed(1)

# The text, a table with the columns `source` and `target`, and one vocabulary for both languages (§5.1).
train_text = load_parallel("toyland:train[:10000]", "en", "de")
valid_text = load_parallel("toyland:valid[:200]", "en", "de")
lines = [*train_text["source"], *train_text["target"]]
tokenizer = train_tokenizer(lines, vocab_size=1200, normalization="identity")

# Batches of token ids: sentences of similar length together, at most `tokens_per_batch` tokens per side.
train_pairs, counts = tokenize_pairs(train_text, tokenizer, max_tokens=100)
valid_pairs, _ = tokenize_pairs(valid_text, tokenizer, max_tokens=100)
batches = TokenBatches(train_pairs, tokens_per_batch=training.tokens_per_batch, seed=1)
valid_batches = TokenBatches(valid_pairs, tokens_per_batch=2000, seed=1, shuffle=False)
print(f"{counts.kept:,} training pairs, vocabulary {tokenizer.vocab_size:,}")

# The model, its loss (label smoothing in training only, §5.4) and Adam with the paper's numbers (§5.3).
config = transformer.ModelConfig(
    vocab_size=tokenizer.vocab_size, d_model=96, num_heads=4, d_ff=384, num_layers=2, dropout=0.0
)
model = transformer.build_model(config)
objective = TranslationLoss(training.label_smoothing)
valid_objective = replace(objective, label_smoothing=0.0)
betas = (training.adam_beta1, training.adam_beta2)
optimizer = torch.optim.Adam(model.parameters(), betas=betas, eps=training.adam_epsilon)

# The loop, in the order in which things happen.
for step in range(1, training.max_steps + 1):
    model.train()
    optimizer.param_groups[0]["lr"] = rate = learning_rate(step, config.d_model, training)  # equation 3
    update = [next(batches) for _ in range(training.accumulate)]  # one batch by default
    loss = accumulate_gradients(objective, model, update)  # the update's mean loss per token
    norm = clip_gradients(model, training.max_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if step in (1, training.max_steps) or step % training.log_every == 0:
        print(f"update {step}: loss {loss.total / loss.tokens:.3f}, rate {rate:.5f}, norm {norm:.2f}")
    if step % training.valid_every == 0 or step == training.max_steps:
        valid_loss, tokens = mean_loss(model.eval(), valid_batches, valid_objective, ALONE)
        print(f"update {step}: validation loss {valid_loss:.3f} on {tokens:,} tokens")

translator = transformer.Translator(model.eval(), tokenizer, model_config=config)
for sentence, translation in zip(SENTENCES, translator.translate(SENTENCES), strict=True):
    print(f"{sentence:32} {translation}")
