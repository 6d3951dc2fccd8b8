"""`Translator`, which translates text with a trained model, its tokenizer and a search."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from transformer.checkpoint.pretrained import Build, load_run
from transformer.config import DecodingConfig, InferencePrecision, ModelConfig
from transformer.data.text import text_list
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.decoding.alignment import Alignment, align, pharaoh
from transformer.decoding.beam import search_n_best
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.inference import freeze, padded_rows, without_gradients
from transformer.decoding.lines import LineTranslator, SearchOptions
from transformer.decoding.processors import AtPlaces, ForcedPrefix
from transformer.decoding.sampling import Sampler
from transformer.decoding.scoring import Score, score_pairs
from transformer.decoding.search import Hypotheses, generate
from transformer.decoding.translation import Output, Translation, distinct_texts, filled
from transformer.messages import warn
from transformer.model.build import build_model

FURTHER_SEARCHES = (1, 1), (1, 4), (2, 4), (4, 8)
"""Factors for `beam_size` and `n_best`, one pair for each search. `Translator.search` runs these searches in
turn until it has enough distinct translations."""


class Translator(LineTranslator):
    """Translates lines with a trained model, by default with the beam search and length limit of §6.1.

    A translator can be pickled for another process if its model and `warn` can be pickled.
    """

    can_align = True

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        model_config: ModelConfig,
        decoding: DecodingConfig | None = None,
        warn: Callable[[str], None] = warn,
    ) -> None:
        super().__init__(tokenizer, model_config=model_config, decoding=decoding, warn=warn)
        self.model = model

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        build: Build = build_model,
        device: str = "auto",
        precision: InferencePrecision = "float32",
    ) -> "Translator":
        """Load the best checkpoint of a run's folder, or one checkpoint, as a translator.

        Several paths make an ensemble, which searches with the settings of the first run. Matrix products are
        computed in `precision`: int8, or any value of the setting `precision`. The model is frozen; to train
        it further, use `load_pretrained`.
        """
        paths = [path] if isinstance(path, str | Path) else path
        found = [load_run(each, task="translation", build=build, device=device) for each in paths]
        model, tokenizer, settings = found[0]
        for other, name in zip(found, paths, strict=True):
            if other.tokenizer.digest != tokenizer.digest:
                raise ValueError(
                    f"{name}: its vocabulary differs from that of {paths[0]}; all models of an ensemble need "
                    "the same vocabulary"
                )
        if len(found) > 1:
            model = Ensemble([each.model for each in found])
        freeze(model, precision)
        limit = min(each.settings.model.max_positions for each in found)
        config = replace(settings.model, max_positions=limit)
        return cls(model, tokenizer, model_config=config, decoding=settings.decoding)

    @property
    def device_type(self) -> str:
        return next(self.model.parameters()).device.type

    def translate_batch(
        self, sources: Sequence[list[int]], starts: Sequence[list[int]], options: SearchOptions
    ) -> list[list[Translation]]:
        src_tokens = self.right_padded(sources)
        limits = torch.tensor(
            [self.limit(source, start) for source, start in zip(sources, starts, strict=True)],
            device=src_tokens.device,
        )
        if any(starts):
            options = replace(options, processors=[ForcedPrefix(starts, options.processors)])
        with without_gradients(self.model):
            if options.sampler is None:
                return self.search(src_tokens, limits, options)
            return self.read_out(as_outputs(self.sample(src_tokens, limits, options, options.sampler)))

    def search(self, src_tokens: Tensor, limits: Tensor, options: SearchOptions) -> list[list[Translation]]:
        """Find the `n_best` distinct translations with the highest scores for each row.

        Different token sequences may decode to the same text, so a search may find fewer than `n_best`
        distinct translations. Such rows are searched again, first for a longer list, then with wider beams.
        """
        n_best = options.n_best
        results: list[list[Translation]] = [[] for _ in src_tokens]
        places = torch.arange(src_tokens.shape[0], device=src_tokens.device)
        for wider, longer in FURTHER_SEARCHES:
            found = search_n_best(
                self.model,  # type: ignore[arg-type]  # an nn.Module with prefill and step
                src_tokens[places],
                beam_size=wider * options.beam_size,
                alpha=options.alpha,
                max_length=limits[places],
                n_best=longer * n_best,
                processors=[AtPlaces(places, processor) for processor in options.processors],
            )
            for place, outputs in zip(places.tolist(), self.read_out(as_outputs(found)), strict=True):
                results[place] = distinct_texts([*results[place], *outputs], n_best)
            short = [place for place in places.tolist() if len(results[place]) < n_best]
            if not short or n_best == 1:
                break
            places = torch.tensor(short, device=places.device)
        return [filled(outputs, n_best) for outputs in results]

    def sample(
        self, src_tokens: Tensor, limits: Tensor, options: SearchOptions, sampler: Sampler
    ) -> Hypotheses:
        """Draw `n_best` samples for each row, and sort them so that the most probable is first."""
        count = options.n_best
        places = torch.arange(src_tokens.shape[0], device=src_tokens.device).repeat_interleave(count)
        found = generate(
            self.model,  # type: ignore[arg-type]
            src_tokens[places],
            choose=sampler,
            max_length=limits[places],
            processors=[AtPlaces(places, processor) for processor in options.processors],
        )
        tokens, scores, lengths = (part.view(len(src_tokens), count, *part.shape[2:]) for part in found)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        tokens = tokens.gather(1, order[:, :, None].expand_as(tokens))
        return Hypotheses(tokens, scores, lengths.gather(1, order))

    def align(self, lines: Iterable[str], translations: Sequence[Translation]) -> list[Alignment]:
        """Align the words of each line with those of its translation (`decoding/alignment.py`).

        For an ensemble, the attention of the first model is used.
        """
        lines = text_list(lines)
        if len(lines) != len(translations):
            raise ValueError(f"there are {len(translations)} translations for {len(lines)} lines")
        sources = self.encode(lines)
        targets = [translation.tokens for translation in translations]
        member = self.model.members[0] if isinstance(self.model, Ensemble) else self.model
        assert isinstance(member, nn.Module)  # members is an nn.ModuleList
        budget = self.decoding.one_pass_limit(self.device_type)
        return align(member, self.tokenizer, sources, targets, batch_tokens=budget)

    def with_alignments(
        self, lines: Sequence[str], found: Sequence[Sequence[Translation]]
    ) -> list[list[tuple[Translation, str]]]:
        """Pair each translation of each line with its word alignment, such as `0-0 1-2`."""
        sources = [line for line, row in zip(lines, found, strict=True) for _ in row]
        alignments = iter(self.align(sources, [output for row in found for output in row]))
        return [[(output, pharaoh(next(alignments))) for output in row] for row in found]

    def score(self, lines: Sequence[str], targets: Sequence[str], *, first_line: int = 1) -> list[Score]:
        """Compute the log-probability of each target as the translation of its line.

        Lines and targets are truncated to `max_positions` tokens.
        """
        lines = text_list(lines, first=first_line)
        targets = text_list(targets, "target", first_line)
        if len(targets) != len(lines):
            raise ValueError(f"there are {len(targets)} targets for {len(lines)} lines; give one for each")
        sources = self.encode(lines, first_line)
        ended = [source or [self.config.eos_id] for source in sources]  # a blank line is also scored
        ids = self.encode_targets(targets, first_line, "target")
        budget = self.decoding.one_pass_limit(self.device_type)
        return score_pairs(self.model, ended, ids, batch_tokens=budget)

    def right_padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return padded_rows(self.model, rows, self.config.pad_id)


def as_outputs(found: Hypotheses) -> list[list[Output]]:
    """The hypotheses of each row as lists of ids, without padding."""
    tokens, scores, lengths = (part.tolist() for part in found)
    return [
        [Output(ids[:length], score) for ids, score, length in zip(*row, strict=True)]
        for row in zip(tokens, scores, lengths, strict=True)
    ]
