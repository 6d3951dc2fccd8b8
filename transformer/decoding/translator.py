"""Text in, text out: a trained model, its tokenizer and the search together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from transformer.checkpoint.pretrained import load_pretrained
from transformer.config import DecodingConfig, ModelConfig, Precision
from transformer.data.text import one_line, text_list
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.alignment import Alignment, align
from transformer.decoding.beam import search_n_best
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.inference import freeze, without_gradients
from transformer.decoding.processors import AtPlaces, ForcedPrefix
from transformer.decoding.sampling import Sampler
from transformer.decoding.scoring import Score, score_pairs
from transformer.decoding.search import Hypotheses, Processor, generate
from transformer.decoding.translation import Translation, distinct_texts, filled
from transformer.messages import warn
from transformer.model.build import build_model

MOST_CHARACTERS = 64
"""Per token of `max_positions`: what a line has beyond that is not even cut into tokens."""
MOST_HYPOTHESES = 1 / 8
"""Per token of `decoding.batch_tokens`: short sentences share their batch with no more than that."""
WIDEST_BEAM = 1000
FURTHER_SEARCHES = (1, 1), (1, 4), (2, 4), (4, 8)
"""How many times as wide and as long a list is searched for, until it has enough different texts."""


class Translator:
    """Translates lines with a trained model: §6.1's beam search and limit, in batches of similar length.

    A blank line's translation is an empty line. A line longer than the model's `max_positions` is cut there,
    and `warn` is told so. Translations never hold a line break. What a batch may hold is bounded by
    `decoding.batch_tokens`. It can be pickled for another process if its model and `warn` can.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        model_config: ModelConfig,
        decoding: DecodingConfig | None = None,
        warn: Callable[[str], None] = warn,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = model_config
        self.decoding = decoding or DecodingConfig()
        self.warn = warn

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        build: Callable[[ModelConfig], nn.Module] = build_model,
        device: str = "auto",
        precision: Precision = "float32",
    ) -> "Translator":
        """Load a run's folder (its best checkpoint) or one checkpoint of it, ready to translate.

        Several paths make an ensemble; the first one's settings decide how it searches. `precision` is that
        of the matrix products, as in training. The model is frozen: `load_pretrained` has one to train.
        """
        paths = [path] if isinstance(path, str | Path) else path
        found = [load_pretrained(each, task="translation", build=build, device=device) for each in paths]
        model, tokenizer, settings = found[0]
        for other, name in zip(found, paths, strict=True):
            if other.tokenizer.digest != tokenizer.digest:
                raise ValueError(f"{name}: another vocabulary than {paths[0]}; an ensemble needs one for all")
        if len(found) > 1:
            model = Ensemble([each.model for each in found])
        freeze(model, precision)
        limit = min(each.settings.model.max_positions for each in found)
        config = replace(settings.model, max_positions=limit)
        return cls(model, tokenizer, model_config=config, decoding=settings.decoding)

    def translate(
        self, lines: Iterable[str], *, beam_size: int | None = None, alpha: float | None = None
    ) -> list[str]:
        """The best translation of each line; the run's own `decoding` settings where none are given."""
        return [
            found[0].text
            for found in self.translate_n_best(lines, n_best=1, beam_size=beam_size, alpha=alpha)
        ]

    def search_settings(self, beam_size: int | None, alpha: float | None) -> tuple[int, float]:
        """These, or the run's own `decoding` settings; `ValueError` for what cannot be."""
        search = self.decoding
        beam_size = search.beam_size if beam_size is None else beam_size
        alpha = search.alpha if alpha is None else alpha
        replace(search, beam_size=beam_size, alpha=alpha)  # refuses what cannot be
        if beam_size > WIDEST_BEAM:
            raise ValueError(f"decoding.beam_size is {beam_size}; the widest beam is {WIDEST_BEAM}")
        return beam_size, alpha

    def translate_n_best(
        self,
        lines: Iterable[str],
        *,
        n_best: int,
        beam_size: int | None = None,
        alpha: float | None = None,
        first_line: int = 1,
        processors: Sequence[Processor] = (),
        prefixes: Sequence[str] | None = None,
        sampler: Sampler | None = None,
    ) -> list[list[Translation]]:
        """The `n_best` best translations of each line, best first; `first_line` numbers the first line.

        No text comes twice; where a search finds fewer, outputs with score -inf follow. Each translation
        begins with the line's text of `prefixes` and has only tokens that `processors` leave. With a
        `sampler` they are drawn instead, so that a text may come again, and scores are log-probabilities.
        """
        lines = text_list(lines, first=first_line)
        beam_size, alpha = self.search_settings(beam_size, alpha)
        if sampler is None and not 1 <= n_best <= beam_size:
            raise ValueError(f"n_best is {n_best}; it must be between 1 and beam_size, {beam_size}")
        if not 1 <= n_best <= WIDEST_BEAM:
            raise ValueError(f"n_best is {n_best}; it must be between 1 and {WIDEST_BEAM} when sampling")
        sources = self.encode(lines, first_line)
        starts = self.encode_prefixes(prefixes, len(lines), first_line)
        results: list[list[Translation]] = [[Translation("", 0.0, [])] * n_best for _ in lines]
        for rows in self.batches(sources, n_best if sampler else beam_size):
            src_tokens = self.right_padded([sources[row] for row in rows])
            forced = [starts[row] for row in rows]
            limits = self.limits(src_tokens, forced)
            chosen = [ForcedPrefix(forced, processors)] if any(forced) else processors
            with without_gradients(self.model):
                if sampler is None:
                    found = self.search(src_tokens, limits, n_best, chosen, beam_size, alpha)
                else:
                    found = self.read_out(self.sample(src_tokens, limits, n_best, chosen, sampler))
            for row, outputs in zip(rows, found, strict=True):
                results[row] = outputs
        return results

    def search(
        self,
        src_tokens: Tensor,
        limits: Tensor,
        n_best: int,
        processors: Sequence[Processor],
        beam_size: int,
        alpha: float,
    ) -> list[list[Translation]]:
        """The `n_best` best texts of each row.

        Several token sequences may be the same text. A row whose list stays short is searched again for a
        longer list, then with wider beams.
        """
        results: list[list[Translation]] = [[] for _ in src_tokens]
        places = torch.arange(src_tokens.shape[0], device=src_tokens.device)
        for wider, longer in FURTHER_SEARCHES:
            found = search_n_best(
                self.model,  # type: ignore[arg-type]  # an nn.Module with prefill and step
                src_tokens[places],
                beam_size=wider * beam_size,
                alpha=alpha,
                max_length=limits[places],
                n_best=longer * n_best,
                processors=[AtPlaces(places, processor) for processor in processors],
            )
            for place, outputs in zip(places.tolist(), self.read_out(found), strict=True):
                results[place] = distinct_texts([*results[place], *outputs], n_best)
            short = [place for place in places.tolist() if len(results[place]) < n_best]
            if not short or n_best == 1:
                break
            places = torch.tensor(short, device=places.device)
        return [filled(outputs, n_best) for outputs in results]

    def sample(
        self,
        src_tokens: Tensor,
        limits: Tensor,
        count: int,
        processors: Sequence[Processor],
        sampler: Sampler,
    ) -> Hypotheses:
        """`count` outputs of each row, the most probable first."""
        places = torch.arange(src_tokens.shape[0], device=src_tokens.device).repeat_interleave(count)
        found = generate(
            self.model,  # type: ignore[arg-type]
            src_tokens[places],
            choose=sampler,
            max_length=limits[places],
            processors=[AtPlaces(places, processor) for processor in processors],
        )
        tokens, scores, lengths = (part.view(len(src_tokens), count, *part.shape[2:]) for part in found)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        tokens = tokens.gather(1, order[:, :, None].expand_as(tokens))
        return Hypotheses(tokens, scores, lengths.gather(1, order))

    def align(self, lines: Iterable[str], translations: Sequence[Translation]) -> list[Alignment]:
        """Which word of each line each word of its translation was made from (`decoding/alignment.py`).

        An ensemble aligns by its first model.
        """
        lines = text_list(lines)
        if len(lines) != len(translations):
            raise ValueError(f"there are {len(translations)} translations for {len(lines)} lines")
        sources = self.encode(lines)
        targets = [translation.tokens for translation in translations]
        member = self.model.members[0] if isinstance(self.model, Ensemble) else self.model
        assert isinstance(member, nn.Module)  # of an nn.ModuleList
        return align(member, self.tokenizer, sources, targets, batch_tokens=self.decoding.batch_tokens)

    def score(self, lines: Sequence[str], targets: Sequence[str], *, first_line: int = 1) -> list[Score]:
        """What the model thinks of given translations; both sides are cut at `max_positions`."""
        lines = text_list(lines, first=first_line)
        targets = text_list(targets, "target", first_line)
        if len(targets) != len(lines):
            raise ValueError(f"there are {len(targets)} targets for {len(lines)} lines; give one for each")
        sources = self.encode(lines, first_line)
        ended = [source or [self.config.eos_id] for source in sources]  # a blank line has a score, too
        ids = self.encode_targets(targets, first_line, "target")
        return score_pairs(self.model, ended, ids, batch_tokens=self.decoding.batch_tokens)

    @property
    def longest(self) -> int:
        """Characters of a line that are cut into tokens at all."""
        return MOST_CHARACTERS * self.config.max_positions

    def encode(self, lines: Sequence[str], first_line: int | None = None) -> list[list[int]]:
        """Ids of each line with EOS, cut at `max_positions`; none for a blank line.

        With the number of the first line, `warn` is told which lines were cut.
        """
        limit = self.config.max_positions
        sources = []
        encoded = self.tokenizer.encode([line[: self.longest] for line in lines])
        for number, (line, ids) in enumerate(zip(lines, encoded, strict=True), first_line or 0):
            if first_line is not None and (len(ids) >= limit or len(line) > self.longest):
                is_whole = len(line) <= self.longest
                size = f"{len(ids) + 1} tokens" if is_whole else f"{len(line)} characters"
                kept = f"{limit}" if is_whole else f"{min(limit, len(ids) + 1)} tokens"
                self.warn(f"line {number} has {size}; only its first {kept} are translated")
            sources.append([*ids[: limit - 1], self.config.eos_id] if line.strip() and ids else [])
        return sources

    def encode_prefixes(self, prefixes: Sequence[str] | None, count: int, first_line: int) -> list[list[int]]:
        """Ids that each line's translation starts with, none where none is given."""
        if prefixes is None:
            return [[] for _ in range(count)]
        prefixes = text_list(prefixes, "prefix", first_line)
        if len(prefixes) != count:
            raise ValueError(f"there are {len(prefixes)} prefixes for {count} lines; give one for each")
        return self.encode_targets(prefixes, first_line, "prefix")

    def encode_targets(self, texts: Sequence[str], first_line: int, name: str) -> list[list[int]]:
        """Ids of each text without EOS, cut to leave room for it; `warn` is told of each one that was."""
        room = self.config.max_positions - 1
        encoded = self.tokenizer.encode_target([text[: self.longest] for text in texts])
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), first_line):
            if len(ids) > room or len(text) > self.longest:
                self.warn(f"the {name} of line {number} is too long; only its first {room} tokens are used")
        return [ids[:room] for ids in encoded]

    def batches(self, sources: Sequence[list[int]], beam_size: int) -> Iterator[list[int]]:
        """Rows of similar length together, longest first, so that memory is greatest at once."""
        rows = sorted((row for row, ids in enumerate(sources) if ids), key=lambda row: -len(sources[row]))
        start, budget = 0, self.decoding.batch_tokens
        while start < len(rows):
            width = len(sources[rows[start]])
            most = min(budget / width, budget * MOST_HYPOTHESES)
            size = max(1, int(most / beam_size))
            yield rows[start : start + size]
            start += size

    def right_padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        tensors = [torch.tensor(row) for row in rows]
        tokens = pad_sequence(tensors, batch_first=True, padding_value=self.config.pad_id)
        return tokens.to(next(self.model.parameters()).device)

    def limits(self, src_tokens: Tensor, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """At most `max_extra` tokens more than source and prefix (§6.1), and no more than `max_positions`."""
        lengths = (src_tokens != self.config.pad_id).sum(dim=1)
        lengths += torch.tensor([len(prefix) for prefix in prefixes], device=lengths.device)
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
