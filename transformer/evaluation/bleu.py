"""BLEU by sacreBLEU, and which of its tokenizers cuts the sentences of a language."""

import re
from typing import TYPE_CHECKING, get_args

from transformer.config import BleuTokenizer, DataConfig

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

TOKENIZER_OF: dict[str, BleuTokenizer] = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacreBLEU's own choice by language; all others have 13a, which cuts at spaces and punctuation."""
OTHER_CODES = {"zho": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko"}
"""ISO 639-3, as in `zho_Hans`."""
EXTRAS: dict[str, str] = {"ja-mecab": "ja", "ko-mecab": "ko"}
"""The extras of the package sacrebleu that bring what a tokenizer needs."""


def choose_tokenizer(data: DataConfig) -> BleuTokenizer:
    """`data.bleu_tokenizer`, or sacreBLEU's choice for the target language; `char` where it is not installed.

    A script or region after the language does not matter: `zh-CN`, `zh_Hans`.
    """
    if data.bleu_tokenizer is not None:
        return data.bleu_tokenizer
    language = re.split("[-_]", data.target.lower())[0]
    tokenizer = TOKENIZER_OF.get(OTHER_CODES.get(language, language), "13a")
    try:
        if tokenizer in EXTRAS:
            make_bleu(tokenizer)
    except ValueError:
        return "char"
    return tokenizer


def make_bleu(tokenizer: str) -> "BLEU":
    """sacreBLEU's metric; `ValueError` in one line where the tokenizer is unknown or cannot be used."""
    from sacrebleu.metrics.bleu import BLEU

    if tokenizer not in get_args(BleuTokenizer):
        names = ", ".join(get_args(BleuTokenizer))
        raise ValueError(f"sacreBLEU has no tokenizer {tokenizer!r}; choose one of {names}")
    try:
        return BLEU(tokenize=tokenizer, force=tokenizer == "none")  # force: no warning of tokenised text
    except Exception as error:  # a missing package, another dictionary, a model that cannot be fetched
        if tokenizer in EXTRAS:
            raise ValueError(
                f"BLEU with the tokenizer {tokenizer} (data.bleu_tokenizer) needs a package that is not "
                f"installed; pip install 'sacrebleu[{EXTRAS[tokenizer]}]'"
            ) from None
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"sacreBLEU's tokenizer {tokenizer} cannot be loaded: {why}") from None


def signature(tokenizer: str) -> str:
    """What sacreBLEU says of a score of one reference a sentence."""
    bleu = make_bleu(tokenizer)
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())
