"""Settings of the text and the tokenizer (§5.1)."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import require, require_choices, require_plain_numbers, require_positive

BleuTokenizer = Literal[
    "13a", "zh", "ja-mecab", "ko-mecab", "char", "intl", "none", "flores101", "flores200", "spm", "spBLEU-1K"
]
"""sacreBLEU's names for its tokenizers; the last four download a model on first use."""


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it becomes tokens (§5.1).

    There are four ways to name a parallel text: a path without the language suffix (`corpus/train` for
    `corpus/train.en` and `corpus/train.de`, also compressed as `.gz` or `.xz`); a json, jsonl, csv, tsv or
    parquet file; a Hub id with its split (`wmt/wmt14:de-en:train`); and `toyland:SPLIT`. The first line of a
    tsv file names its columns. Without such a line, the first two columns are source and target.

    The text of a language model, a masked language model or a classifier is a plain file. Any of these names
    may end in a slice, such as `[:N]`, `[1000:2000]`, `[:90%]` or `[90%:]`. A slice counts the pairs of a
    parallel text, the characters of a language model's text, and the lines of any other text.
    """

    train: str = "toyland:train"
    """Text to train on."""
    valid: str | None = "toyland:valid"
    """Text to validate on; null: none."""
    test: str | None = "toyland:test"
    """Text for transformer evaluate."""
    source: str = "en"
    """Language or column to translate from."""
    target: str = "de"
    """Language or column to translate into."""
    tokenizer: Literal["sentencepiece", "characters", "moses"] = "sentencepiece"
    """Tokenizer.
    sentencepiece: BPE with byte fallback, shared by both languages; characters: one token per character,
    for language models; moses: lowercase, split into words by Moses' rules, then SentencePiece, for
    translation."""
    vocab_size: int | None = 37_000
    """Entries that SentencePiece learns; null: by size of text.
    With null, there is one entry for each byte, special token and distinct character, plus 4 times the square
    root of the number of characters in the training text; at most 37,000 entries in all. This gives about
    1,300 entries for 500 pairs of short sentences, and 8,000 for 30,000 pairs."""
    target_vocab_size: int | None = None
    """Size of a separate target vocabulary; null: shared.
    data.vocab_size is then the size of the source vocabulary."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's normalisation.
    identity leaves the text unchanged."""
    max_tokens: int = 256
    """Maximum tokens per sentence, EOS included.
    A training pair is dropped, and counted as dropped, if one of its sides is longer. A longer sentence to
    classify, to mask or to embed is truncated."""
    context: int = 256
    """Tokens per block of a language model."""
    label_format: Literal["tab", "colon"] | None = None
    """Label format; null: no labels.
    The format of a line that holds a sentence and its label.
    tab: `SENTENCE<TAB>LABEL`; colon: `LABEL:DETAIL SENTENCE`, the format of the TREC questions (the detail is
    ignored)."""
    classes: str | None = None
    """Classes, comma-separated; null: those in the text.
    The labels that a classifier can predict; by default, all labels in the training text."""
    bleu_tokenizer: BleuTokenizer | None = None
    """sacreBLEU's tokenizer; null: chosen by data.target.
    The tokenizer for BLEU in validation and in `transformer evaluate`. The default for data.target is zh for
    Chinese, ja-mecab for Japanese and ko-mecab for Korean (or char if the package that these tokenizers need
    is not installed), and 13a for all other languages. The run records the choice."""

    def __post_init__(self) -> None:
        require_plain_numbers(self, "data")
        require_choices(self, "data")
        require_positive(self, "data", "max_tokens", "context")
        for name in ("vocab_size", "target_vocab_size"):
            size = getattr(self, name)
            require(
                size is None or 0 < size < 2**31,
                f"data.{name} is {size}; it must be null or greater than 0 and less than 2**31",
            )
        require(
            self.target_vocab_size is None or self.tokenizer != "moses",
            "data.tokenizer moses has one vocabulary for both languages; set data.target_vocab_size to null",
        )
