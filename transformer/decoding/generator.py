"""Text generation with a trained language model."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from transformer.checkpoint.pretrained import Build, load_run
from transformer.config import InferencePrecision
from transformer.data.text import lone_surrogate
from transformer.data.tokenizers.protocol import UNK_ID, Tokenizer
from transformer.decoding.inference import freeze, without_gradients
from transformer.decoding.search import generate, greedy
from transformer.model.build import build_model

INCOMPLETE = "\ufffd"  # the decoded form of a character while some of its bytes are missing


class TextGenerator:
    """Generates text with a decoder-only model and its tokenizer.

    The model keeps a key-value cache, so it processes each token only once. With sinusoidal positions, the
    text may be longer than the blocks used in training, but its quality then drops. With learned positions,
    text longer than `model.max_positions` raises a `ValueError`.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        build: Build = build_model,
        device: str = "auto",
        precision: InferencePrecision = "float32",
    ) -> "TextGenerator":
        """Load the best checkpoint of a run's folder, or one checkpoint, frozen for inference.

        `precision` applies to the matrix products.
        """
        model, tokenizer, _ = load_run(path, task="language_model", build=build, device=device)
        freeze(model, precision)
        return cls(model, tokenizer)

    def continue_text(
        self,
        prompt: str,
        *,
        max_length: int,
        choose: Callable[[Tensor], Tensor] = greedy,
        write: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> str:
        """Continue `prompt` with tokens picked by `choose`, until EOS or for `max_length` tokens.

        Returns the prompt and its continuation as one string. After each token, `write` is called with the
        text that has become known since the previous call; the first call also gets the prompt.
        Raises `ValueError` for an empty prompt, or a prompt with characters outside the vocabulary.
        """
        ids = self.prompt_ids(prompt)
        device = next(self.model.parameters()).device
        written = ""

        def choose_and_write(logits: Tensor) -> Tensor:
            nonlocal written
            chosen = choose(logits)
            ids.append(int(chosen))
            text = self.tokenizer.decode([ids])[0].rstrip(INCOMPLETE)
            write(text[len(written) :])
            written = text
            return chosen

        tokens = torch.tensor([ids], device=device)
        with without_gradients(self.model):
            generate(self.model, tokens, choose=choose_and_write, max_length=max_length)  # type: ignore[arg-type]
        return self.tokenizer.decode([ids])[0]

    def prompt_ids(self, prompt: str) -> list[int]:
        # Python decodes invalid UTF-8 bytes in sys.argv to lone surrogates.
        if surrogate := lone_surrogate(prompt):
            raise ValueError(f"the prompt is not UTF-8: it holds {surrogate}, half of a surrogate pair")
        [ids] = self.tokenizer.encode([prompt])
        if not ids:
            raise ValueError("the prompt has no tokens; give at least one character")
        if UNK_ID in ids:
            each = dict.fromkeys(prompt)
            unknown = ", ".join(repr(one) for one in each if UNK_ID in self.tokenizer.encode([one])[0])
            raise ValueError(f"the prompt has characters that the model's vocabulary lacks: {unknown}")
        return ids
