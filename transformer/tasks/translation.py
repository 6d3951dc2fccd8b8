"""Translation: an encoder-decoder learns from pairs of sentences to predict the target from the source.

A trained model is used through `Translator` (`decoding/translator.py`) or `transformer translate`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from transformer.checkpoint.pretrained import Pretrained
from transformer.config import Settings
from transformer.data.batches import Batch, TokenBatches
from transformer.data.corpus import load_parallel
from transformer.data.tokenizers.moses import MosesTokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.training import make_tokenizer
from transformer.data.tokenizing import tokenize_pairs
from transformer.decoding.inference import freeze
from transformer.decoding.translator import Translator
from transformer.evaluation.bleu import choose_tokenizer, make_bleu, signature
from transformer.evaluation.compounds import paper_words
from transformer.evaluation.metrics import bracket_f1, corpus_scores, tokenized_bleu
from transformer.evaluation.report import examples, phenomenon_rows, phenomenon_table, score_table
from transformer.evaluation.scored import Scored
from transformer.evaluation.validation import mean_loss, perplexity
from transformer.kernels.loss import overwriting_cross_entropy
from transformer.tasks.registry import TASKS
from transformer.tasks.task import Report, Task, TokenizedText
from transformer.training.distributed import ALONE, Group
from transformer.training.objectives import Loss, TokenLoss
from transformer.training.parallel import gathered
from transformer.training.report import SAMPLES

if TYPE_CHECKING:
    import datasets

SHOWN = 2
"""The number of translations that training shows after each validation."""


class TranslationLoss(TokenLoss):
    """The loss of predicting each target token, EOS included, from the source and the tokens before it."""

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        logits = model(batch.src_tokens, batch.tgt_tokens[:, :-1])
        return Loss(self.total(logits, batch.tgt_tokens[:, 1:]), batch.target_tokens)


@dataclass(frozen=True)
class TranslationValidation:
    """Computes loss and perplexity per token on a parallel corpus, and scores translations of some sentences.

    Also returns the first few translations, which training prints.
    """

    batches: TokenBatches
    objective: TranslationLoss
    sources: list[str]
    references: list[str]
    translator: Callable[[nn.Module], Translator]
    bleu_tokenizer: str = "13a"

    def __call__(self, model: nn.Module, group: Group = ALONE) -> dict[str, Any]:
        loss, _ = mean_loss(model, self.batches, self.objective, group)
        metrics: dict[str, Any] = {"loss": loss, "perplexity": perplexity(loss)}
        if self.sources and not math.isfinite(loss):  # all scores in a search would be NaN
            return metrics | {"bleu": math.nan, "exact_match": math.nan}
        if self.sources:
            share = self.sources[group.rank :: group.size]
            with gathered(model):
                translated = self.translator(model).translate(share, beam_size=1)
            outputs = group.collect(translated)
            scores = corpus_scores(outputs, self.references, self.bleu_tokenizer)
            samples = [
                {"source": source, "translation": output, "reference": reference}
                for source, output, reference in zip(self.sources, outputs, self.references, strict=True)
            ]
            metrics |= {"bleu": scores.bleu, "exact_match": scores.exact_match, SAMPLES: samples[:SHOWN]}
        return metrics


class ParallelText(Task):
    """Base class of the tasks whose training text consists of pairs of sentences."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.table = load_table(settings, settings.data.train)

    def train_tokenizer(self) -> Tokenizer:
        """Train on both sides, which share a vocabulary unless `data.target_vocab_size` is set."""
        return make_tokenizer(self.settings.data, self.side("source"), self.side("target"))

    def side(self, column: str) -> Iterator[str]:
        for part in self.table.select_columns(column).with_format("arrow").iter(batch_size=10_000):
            yield from part[column].to_pylist()


class TranslationTask(ParallelText):
    """Trains an encoder-decoder on parallel text (§5.1). Adds the tokenizer for BLEU to its `settings`."""

    kind, metrics = TASKS["translation"].kind, TASKS["translation"].metrics

    score_options = frozenset(("beam_size", "alpha", "bleu_tokenizer", "paper_bleu", "show", "output"))

    def __init__(self, settings: Settings) -> None:
        bleu_tokenizer = choose_tokenizer(settings.data)
        if computes_bleu(settings):
            make_bleu(bleu_tokenizer)  # fails early if this tokenizer is not installed
        super().__init__(replace(settings, data=replace(settings.data, bleu_tokenizer=bleu_tokenizer)))

    def tokenize(self, tokenizer: Tokenizer, settings: Settings) -> TokenizedText:
        tokenized, counts = tokenize_pairs(self.table, tokenizer, max_tokens=settings.data.max_tokens)
        batches = TokenBatches(
            tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed
        )
        bleu = (
            {"bleu_signature": signature(choose_tokenizer(settings.data))} if computes_bleu(settings) else {}
        )
        return TokenizedText(
            batches,
            asdict(counts) | bleu,
            f"{counts.kept:,} pairs ({counts.empty:,} empty and {counts.too_long:,} too long ones dropped)",
        )

    @staticmethod
    def objective(settings: Settings) -> TranslationLoss:
        """Return a loss that overwrites the logits, which is safe because nothing else reads them."""
        return TranslationLoss(settings.training.label_smoothing, cross_entropy=overwriting_cross_entropy)

    @classmethod
    def validation(cls, name: str, tokenizer: Tokenizer, settings: Settings) -> TranslationValidation:
        """Validate on the corpus `name`, and translate `training.valid_sample` evenly spaced sentences."""
        table = load_table(settings, name)
        tokenized, _ = tokenize_pairs(table, tokenizer, max_tokens=settings.data.max_tokens)
        batches = TokenBatches(
            tokenized, tokens_per_batch=settings.training.tokens_per_batch, seed=settings.seed, shuffle=False
        )
        size = min(settings.training.valid_sample, len(table))
        sample = table.select([number * len(table) // size for number in range(size)])
        return TranslationValidation(
            batches,
            TranslationLoss(0.0, cross_entropy=overwriting_cross_entropy),
            list(sample["source"]),
            list(sample["target"]),
            partial(
                Translator,
                tokenizer=tokenizer,
                model_config=settings.model,
                decoding=settings.decoding,
                warn=ignore_warning,
            ),
            choose_tokenizer(settings.data),
        )

    @classmethod
    def score(
        cls,
        trained: Pretrained,
        data: str,
        *,
        beam_size: int | None = None,
        alpha: float | None = None,
        bleu_tokenizer: str | None = None,
        paper_bleu: bool = False,
        show: int = 0,
    ) -> Report:
        """Compute BLEU, chrF and exact match on the corpus `data`.

        With `paper_bleu`, BLEU by the paper's procedure is also computed. The report shows up to `show`
        correct and up to `show` wrong translations.
        """
        model, tokenizer, settings = trained
        bleu_tokenizer = bleu_tokenizer or choose_tokenizer(settings.data)
        make_bleu(bleu_tokenizer)  # fails early if this tokenizer is not installed
        cut = paper_words(settings.data.target) if paper_bleu else None
        freeze(model)
        translator = Translator(model, tokenizer, model_config=settings.model, decoding=settings.decoding)
        table = load_table(settings, data)
        sources, references = list(table["source"]), list(table["target"])
        outputs = translator.translate(sources, beam_size=beam_size, alpha=alpha)
        scores = corpus_scores(outputs, references, bleu_tokenizer)
        phenomena = table["phenomena"] if "phenomena" in table.column_names else None
        rows = [] if phenomena is None else list(phenomenon_rows(sources, outputs, references, phenomena))
        values = asdict(scores) | {"phenomena": {row.phenomenon: row._asdict() for row in rows}}
        parts = [score_table(scores), *([phenomenon_table(rows)] if rows else [])]
        if isinstance(translator.tokenizer, MosesTokenizer):
            bleu, how = tokenized_bleu(outputs, references, translator.tokenizer.target.cut)
            values |= {"tokenized_bleu": bleu, "tokenized_bleu_signature": how}
            parts.append(f"BLEU of lower-cased Moses tokens  {bleu:.2f}   {how}")
        if cut is not None:
            bleu, how = tokenized_bleu(outputs, references, cut)
            values |= {"paper_bleu": bleu, "paper_bleu_signature": how}
            parts.append(f"BLEU by the paper's procedure (Moses tokens, compounds split)  {bleu:.2f}   {how}")
        if settings.data.target == "parse":
            values["bracket_f1"] = bracket_f1(outputs, references)
            parts.append(f"bracket F1   {values['bracket_f1']:.1f}")
        parts += examples(sources, outputs, references, show)
        scored = [Scored(*each) for each in zip(sources, references, outputs, strict=True)]
        return Report(values, "\n\n".join(parts), scored)


def computes_bleu(settings: Settings) -> bool:
    """Whether validation translates sentences; without translations there is no BLEU."""
    return settings.data.valid is not None and settings.training.valid_sample > 0


def load_table(settings: Settings, name: str) -> "datasets.Dataset":
    return load_parallel(name, settings.data.source, settings.data.target)


def ignore_warning(_: str) -> None:
    """Discard a warning: otherwise, every validation would warn again that the same lines are truncated."""
