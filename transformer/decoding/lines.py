"""Lines to batches of ids, and hypotheses back to lines: what every translator does, whatever searches."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformer.config import DecodingConfig, ModelConfig
from transformer.data.text import one_line, text_list
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.sampling import Sampler
from transformer.decoding.search import Hypotheses, Processor
from transformer.decoding.translation import Translation
from transformer.messages import warn

MOST_CHARACTERS = 64
"""Per token of `max_positions`: what a line has beyond that is not even cut into tokens."""
MOST_HYPOTHESES = 1 / 8
"""Per token of `decoding.batch_tokens`: short sentences share their batch with no more than that."""
WIDEST_BEAM = 1000


@dataclass(frozen=True)
class SearchOptions:
    """How the lines of one call are translated; with a `sampler` they are drawn instead of searched for."""

    n_best: int
    beam_size: int
    alpha: float
    processors: Sequence[Processor] = ()
    sampler: Sampler | None = None

    def __post_init__(self) -> None:
        if self.beam_size > WIDEST_BEAM:
            raise ValueError(f"decoding.beam_size is {self.beam_size}; the widest beam is {WIDEST_BEAM}")
        if self.sampler is None and not 1 <= self.n_best <= self.beam_size:
            raise ValueError(f"n_best is {self.n_best}; it must be between 1 and beam_size, {self.beam_size}")
        if not 1 <= self.n_best <= WIDEST_BEAM:
            raise ValueError(f"n_best is {self.n_best}; it must be between 1 and {WIDEST_BEAM} when sampling")

    @property
    def hypotheses_per_line(self) -> int:
        return self.n_best if self.sampler else self.beam_size


class LineTranslator(ABC):
    """Translates lines in batches of similar length; a subclass searches for the translations of a batch.

    A blank line's translation is an empty line. A line longer than the model's `max_positions` is cut there,
    and `warn` is told so. Translations never hold a line break. What a batch may hold is bounded by
    `decoding.batch_tokens`.
    """

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

    @abstractmethod
    def translate_batch(
        self, sources: Sequence[list[int]], starts: Sequence[list[int]], options: SearchOptions
    ) -> list[list[Translation]]:
        """The `n_best` outputs of each source, which ends in EOS; its translation begins with `starts`."""

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
        search = self.decoding
        beam_size = search.beam_size if beam_size is None else beam_size
        alpha = search.alpha if alpha is None else alpha
        replace(search, beam_size=beam_size, alpha=alpha)  # refuses what cannot be
        options = SearchOptions(n_best, beam_size, alpha, processors, sampler)
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

    def limit(self, source: Sequence[int], start: Sequence[int]) -> int:
        """At most `max_extra` tokens more than source and prefix (§6.1), and no more than `max_positions`."""
        return min(len(source) + len(start) + self.decoding.max_extra, self.config.max_positions)

    def read_out(self, found: Hypotheses) -> list[list[Translation]]:
        """The texts of each row's hypotheses."""
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
