"""The text and its tokens (§5.1)."""

from dataclasses import dataclass
from typing import Literal

from transformer.config.checks import require, require_choices, require_positive

BleuTokenizer = Literal[
    "13a", "zh", "ja-mecab", "ko-mecab", "char", "intl", "none", "flores101", "flores200", "spm", "spBLEU-1K"
]
"""sacreBLEU's names; the last four need a network once, to fetch a model."""


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it becomes tokens (§5.1).

    A parallel text is named by a path without its language ending (`corpus/train` for `corpus/train.en` and
    `corpus/train.de`, also `.gz` and `.xz`), a json, jsonl, csv, tsv or parquet file, a Hub id with its split
    (`wmt/wmt14:de-en:train`), or `toyland:SPLIT`. A tsv file has a header line that names its columns, or
    source and target as its first two columns. The text of a language model is a plain file, and so are the
    sentences of a masked language model and of a classifier. Any name may end in a slice, `[:N]`,
    `[1000:2000]`, `[:90%]` or `[90%:]`, that counts pairs, the characters of running text, or lines.
    """

    train: str = "toyland:train"
    """Text to train on."""
    valid: str | None = "toyland:valid"
    """Text to validate on while training; null: none."""
    test: str | None = "toyland:test"
    """Text that `transformer evaluate` takes when none is named."""
    source: str = "en"
    """Language, or column, to translate from."""
    target: str = "de"
    """Language, or column, to translate into."""
    tokenizer: Literal["sentencepiece", "characters", "moses"] = "sentencepiece"
    """SentencePiece BPE with byte fallback, shared by both languages; for language models also single
    characters; for translation also moses: small letters and Moses' words, then SentencePiece."""
    vocab_size: int = 37_000
    """Entries of the vocabulary that SentencePiece is trained to."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's normalisation rule; identity leaves every character as it is."""
    max_tokens: int = 256
    """Longest side of a training pair, EOS included; longer pairs are dropped and counted. Of a longer
    sentence of a classifier or a masked language model, and of a longer line to embed, the first tokens are
    read."""
    context: int = 256
    """Tokens of a block of a language model's text."""
    label_format: Literal["tab", "colon"] | None = None
    """Where each line of a file of sentences has its label: `SENTENCE<TAB>LABEL`, `LABEL:DETAIL SENTENCE`
    (the detail is not used); null: it has none."""
    classes: str | None = None
    """Labels that a classifier tells apart, with commas between; null: those of the training text."""
    bleu_tokenizer: BleuTokenizer | None = None
    """sacreBLEU's tokenizer for BLEU in validation and `transformer evaluate`; null: sacreBLEU's choice for
    data.target, zh for Chinese, ja-mecab for Japanese and ko-mecab for Korean (char where the package that it
    needs is not installed), else 13a. The run records the one that was chosen."""

    def __post_init__(self) -> None:
        require_choices(self, "data")
        require_positive(self, "data", "vocab_size", "max_tokens", "context")
        require(self.vocab_size < 2**31, f"data.vocab_size is {self.vocab_size}; it must be less than 2**31")
