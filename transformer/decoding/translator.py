"""Text in, text out: a trained model, its tokenizer and the search together."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from transformer.config import DecodingConfig, ModelConfig
from transformer.data.text import one_line
from transformer.data.tokenizer import Tokenizer
from transformer.decoding.pretrained import load_pretrained
from transformer.decoding.search import Hypotheses, beam_search
from transformer.model.build import build_model


class Translation(NamedTuple):
    """One output: its text, its log-probability / length penalty, and its token ids without EOS."""

    text: str
    score: float
    tokens: list[int]


class Translator:
    """Translates lines with a trained model: §6.1's beam search and limit, in batches of similar length.

    A blank line's translation is an empty line. A line longer than the model's `max_positions` is cut there,
    and `warn` is told so. Translations never hold a line break.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        model_config: ModelConfig,
        decoding: DecodingConfig | None = None,
        warn: Callable[[str], None] = lambda message: print(f"warning: {message}", file=sys.stderr),
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = model_config
        self.decoding = decoding or DecodingConfig()
        self.warn = warn

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        build: Callable[[ModelConfig], nn.Module] = build_model,
        device: str = "auto",
    ) -> "Translator":
        """Load a run's folder (its best checkpoint) or one checkpoint of it, ready to translate."""
        model, tokenizer, settings = load_pretrained(path, task="translation", build=build, device=device)
        return cls(model, tokenizer, model_config=settings.model, decoding=settings.decoding)

    def translate(
        self, lines: Iterable[str], *, beam_size: int | None = None, alpha: float | None = None
    ) -> list[str]:
        """The best translation of each line; the run's own `decoding` settings where none are given."""
        return [
            found[0].text
            for found in self.translate_n_best(lines, n_best=1, beam_size=beam_size, alpha=alpha)
        ]

    def translate_n_best(
        self,
        lines: Iterable[str],
        *,
        n_best: int,
        beam_size: int | None = None,
        alpha: float | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """The `n_best` translations of each line, best first, in the order of the lines.

        `first_line` is the number of the first one, for warnings.
        """
        if isinstance(lines, str):
            raise TypeError("translate takes lines, not one text; for one line pass [text]")
        lines = list(lines)
        beam_size = self.decoding.beam_size if beam_size is None else beam_size
        alpha = self.decoding.alpha if alpha is None else alpha
        replace(self.decoding, beam_size=beam_size, alpha=alpha)  # refuses what cannot be
        if not 1 <= n_best <= beam_size:
            raise ValueError(f"n_best is {n_best}; it must be between 1 and beam_size, {beam_size}")
        sources = self.encode(lines, first_line)
        results: list[list[Translation]] = [[Translation("", 0.0, [])] * n_best for _ in lines]
        for rows in self.batches(sources, beam_size):
            found = self.search([sources[row] for row in rows], beam_size, alpha, n_best)
            for row, outputs in zip(rows, self.read_out(found), strict=True):
                results[row] = outputs
        return results

    def encode(self, lines: Sequence[str], first_line: int) -> list[list[int]]:
        """Ids of each line with EOS, cut at `max_positions`; none for a blank line."""
        limit = self.config.max_positions
        sources = []
        for number, (line, ids) in enumerate(
            zip(lines, self.tokenizer.encode(lines), strict=True), first_line
        ):
            if len(ids) >= limit:
                self.warn(f"line {number} has {len(ids) + 1} tokens; only its first {limit} are translated")
            sources.append([*ids[: limit - 1], self.config.eos_id] if line.strip() and ids else [])
        return sources

    def batches(self, sources: Sequence[list[int]], beam_size: int) -> Iterator[list[int]]:
        """Rows of similar length together, longest first, so that memory is greatest at once."""
        rows = sorted((row for row, ids in enumerate(sources) if ids), key=lambda row: -len(sources[row]))
        start = 0
        while start < len(rows):
            width = len(sources[rows[start]])
            size = max(1, self.decoding.batch_tokens // (width * beam_size))
            yield rows[start : start + size]
            start += size

    def search(self, sources: list[list[int]], beam_size: int, alpha: float, n_best: int) -> Hypotheses:
        device = next(self.model.parameters()).device
        src_tokens = pad_sequence(
            [torch.tensor(ids) for ids in sources], batch_first=True, padding_value=self.config.pad_id
        )
        return beam_search(
            self.model,  # type: ignore[arg-type]  # an nn.Module with prefill and step
            src_tokens.to(device),
            beam_size=beam_size,
            alpha=alpha,
            max_length=self.limits(src_tokens).to(device),
            n_best=n_best,
        )

    def limits(self, src_tokens: Tensor) -> Tensor:
        """At most `max_extra` tokens more than the source (§6.1), and no more than `max_positions`."""
        lengths = (src_tokens != self.config.pad_id).sum(dim=1)
        return (lengths + self.decoding.max_extra).clamp(max=self.config.max_positions)

    def read_out(self, found: Hypotheses) -> list[list[Translation]]:
        lengths, scores = found.lengths.tolist(), found.scores.tolist()
        outputs = []
        for row, row_tokens in enumerate(found.tokens.tolist()):
            ids = [
                [token for token in tokens[:length] if token != self.config.eos_id]
                for tokens, length in zip(row_tokens, lengths[row], strict=True)
            ]
            texts = map(one_line, self.tokenizer.decode(ids))
            outputs.append([Translation(*parts) for parts in zip(texts, scores[row], ids, strict=True)])
        return outputs
