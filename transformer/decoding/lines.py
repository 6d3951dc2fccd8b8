"""Encodes lines into batches of ids and decodes hypotheses into text, identically for all translators."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transformer.config import DecodingConfig, ModelConfig
from transformer.config.decoding import MAX_BEAM_SIZE
from transformer.data.text import MAX_CHARACTERS_PER_TOKEN, one_line, text_list
from transformer.data.token_budget import longest_first
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.translation import Output, Translation
from transformer.messages import warn

if TYPE_CHECKING:  # these import torch, which other engines do not need
    from transformer.decoding.sampling import Sampler
    from transformer.decoding.search import Processor

MAX_HYPOTHESES_PER_TOKEN = 1 / 8
"""A batch has at most this many hypotheses per token of `decoding.batch_tokens`. Without this limit, very
short sentences would make batches of thousands of hypotheses, each with a row of logits."""


@dataclass(frozen=True)
class SearchOptions:
    """How the lines of one call are translated: by search, or by sampling if there is a `sampler`."""

    n_best: int
    beam_size: int
    alpha: float
    processors: "Sequence[Processor]" = ()
    sampler: "Sampler | None" = None

    def __post_init__(self) -> None:
        if self.sampler is None and not 1 <= self.n_best <= self.beam_size:
            raise ValueError(f"n_best is {self.n_best}; it must be between 1 and beam_size, {self.beam_size}")
        if not 1 <= self.n_best <= MAX_BEAM_SIZE:
            raise ValueError(
                f"n_best is {self.n_best}; it must be between 1 and {MAX_BEAM_SIZE} when sampling"
            )

    @property
    def hypotheses_per_line(self) -> int:
        return self.n_best if self.sampler else self.beam_size


class LineTranslator(ABC):
    """Translates lines in batches of similar length; a subclass implements the search.

    A blank line gives an empty translation. A line longer than the model's `max_positions` is truncated, and
    `warn` is called with a message. Translations never contain a line break. `decoding.batch_tokens` limits
    the size of a batch.
    """

    can_align = False
    """Whether the translator has the method `with_alignments`, as `Translator` does."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        model_config: ModelConfig,
        decoding: DecodingConfig | None = None,
        warn: Callable[[str], None] = warn,
    ) -> None:
        self.tokenizer = tokenizer
        self.config = model_config
        self.decoding = decoding or DecodingConfig()
        self.warn = warn

    @property
    @abstractmethod
    def device_type(self) -> str:
        """The kind of device that the model is on, such as `cuda`."""

    @abstractmethod
    def translate_batch(
        self, sources: Sequence[list[int]], starts: Sequence[list[int]], options: SearchOptions
    ) -> list[list[Translation]]:
        """Find `n_best` outputs of each source. `sources[i]` ends in EOS; outputs begin with `starts[i]`."""

    def translate(
        self, lines: Iterable[str], *, beam_size: int | None = None, alpha: float | None = None
    ) -> list[str]:
        """Find the best translation of each line. The defaults are the run's `decoding` settings."""
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
        processors: "Sequence[Processor]" = (),
        prefixes: Sequence[str] | None = None,
        sampler: "Sampler | None" = None,
    ) -> list[list[Translation]]:
        """Find the `n_best` translations of each line, best first; messages count lines from `first_line`.

        The translations of a line are distinct. If the search finds fewer than `n_best`, the missing
        translations are empty and have the score -inf. Each translation begins with its line's entry in
        `prefixes`, and `processors` can forbid tokens. With a `sampler`, translations are sampled instead:
        they may then repeat, and scores are log-probabilities.
        """
        lines = text_list(lines, first=first_line)
        options = self.search_options(n_best, beam_size, alpha, processors, sampler)
        sources = self.encode(lines, first_line)
        starts = self.encode_prefixes(prefixes, len(lines), first_line)
        results: list[list[Translation]] = [[Translation("", 0.0, [])] * n_best for _ in lines]
        for rows in self.batches(sources, options.hypotheses_per_line):
            found = self.translate_batch(
                [sources[row] for row in rows], [starts[row] for row in rows], options
            )
            for row, outputs in zip(rows, found, strict=True):
                results[row] = outputs
        return results

    def search_options(
        self,
        n_best: int,
        beam_size: int | None = None,
        alpha: float | None = None,
        processors: "Sequence[Processor]" = (),
        sampler: "Sampler | None" = None,
    ) -> SearchOptions:
        """The options of a call, by default the run's settings.

        Raises `ValueError` if an option is invalid.
        """
        search = self.decoding
        beam_size = search.beam_size if beam_size is None else beam_size
        alpha = search.alpha if alpha is None else alpha
        replace(search, beam_size=beam_size, alpha=alpha)  # validates both
        return SearchOptions(n_best, beam_size, alpha, processors, sampler)

    @property
    def longest(self) -> int:
        """The maximum number of characters of a line that are tokenized."""
        return MAX_CHARACTERS_PER_TOKEN * self.config.max_positions

    def encode(self, lines: Sequence[str], first_line: int | None = None) -> list[list[int]]:
        """Encode each line with EOS, truncated to `max_positions` ids; a blank line becomes an empty list.

        If `first_line`, the number of the first line, is given, `warn` is called for each truncated line.
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
        """The ids that each line's translation must start with; empty lists if `prefixes` is None."""
        if prefixes is None:
            return [[] for _ in range(count)]
        prefixes = text_list(prefixes, "prefix", first_line)
        if len(prefixes) != count:
            raise ValueError(f"there are {len(prefixes)} prefixes for {count} lines; give one for each")
        return self.encode_targets(prefixes, first_line, "prefix")

    def encode_targets(self, texts: Sequence[str], first_line: int, name: str) -> list[list[int]]:
        """Encode each target without EOS, truncated so that EOS still fits, and warn of truncated targets."""
        room = self.config.max_positions - 1
        encoded = self.tokenizer.encode_target([text[: self.longest] for text in texts])
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), first_line):
            if len(ids) > room or len(text) > self.longest:
                self.warn(f"the {name} of line {number} is too long; only its first {room} tokens are used")
        return [ids[:room] for ids in encoded]

    def batches(self, sources: Sequence[list[int]], beam_size: int) -> Iterator[list[int]]:
        """Yield batches of line indices; each batch has lines of similar length. Blank lines are left out."""
        rows = [row for row, ids in enumerate(sources) if ids]
        sizes = [len(sources[row]) * beam_size for row in rows]
        budget = self.decoding.batch_limit(self.device_type)
        max_rows = max(1, int(budget * MAX_HYPOTHESES_PER_TOKEN / beam_size))
        for batch in longest_first(sizes, budget, max_rows=max_rows):
            yield [rows[place] for place in batch]

    def limit(self, source: Sequence[int], start: Sequence[int]) -> int:
        """The maximum output length: source + prefix + `max_extra` (§6.1), but at most `max_positions`."""
        return min(len(source) + len(start) + self.decoding.max_extra, self.config.max_positions)

    def read_out(self, found: Sequence[Sequence[Output]]) -> list[list[Translation]]:
        """Convert each row's hypotheses to translations: their texts, scores, and tokens without EOS."""
        translations = []
        for outputs in found:
            ids = [[token for token in output.ids if token != self.config.eos_id] for output in outputs]
            texts = map(one_line, self.tokenizer.decode(ids))
            scores = [output.score for output in outputs]
            translations.append([Translation(*parts) for parts in zip(texts, scores, ids, strict=True)])
        return translations
