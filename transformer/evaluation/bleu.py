"""BLEU by sacreBLEU, and the choice of its tokenizer by language."""

import re
from typing import TYPE_CHECKING, get_args

from transformer.config import BleuTokenizer, DataConfig

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

TOKENIZER_OF: dict[str, BleuTokenizer] = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
"""sacreBLEU's default tokenizer by language; all other languages use 13a, which splits at spaces and
punctuation."""
OTHER_CODES = {"zho": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko"}
"""Maps the three-letter code of a language (ISO 639-3), as in `zho_Hans`, to its two-letter code."""
EXTRAS: dict[str, str] = {"ja-mecab": "ja", "ko-mecab": "ko"}
"""For each tokenizer that needs an extra of the package sacrebleu, the name of the extra."""


def choose_tokenizer(data: DataConfig) -> BleuTokenizer:
    """The tokenizer for BLEU: `data.bleu_tokenizer`, or else sacreBLEU's default for the target language.

    If that default needs a package that is not installed, the tokenizer is `char`. A script or region in the
    language code is ignored, as in `zh-CN` or `zh_Hans`.
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
    """Create sacreBLEU's metric.

    Raises `ValueError` with a one-line message if the tokenizer cannot be used.
    """
    from sacrebleu.metrics.bleu import BLEU

    if tokenizer not in get_args(BleuTokenizer):
        names = ", ".join(get_args(BleuTokenizer))
        raise ValueError(f"sacreBLEU has no tokenizer {tokenizer!r}; choose one of {names}")
    try:
        return BLEU(tokenize=tokenizer, force=tokenizer == "none")  # force: do not warn about tokenized text
    except Exception as error:  # such as a missing package or a failed download
        if tokenizer in EXTRAS:
            raise ValueError(
                f"BLEU with the tokenizer {tokenizer} (data.bleu_tokenizer) needs a package that is not "
                f"installed; pip install 'sacrebleu[{EXTRAS[tokenizer]}]'"
            ) from None
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"sacreBLEU's tokenizer {tokenizer} cannot be loaded: {why}") from None


def signature(tokenizer: str) -> str:
    """sacreBLEU's signature for a score with one reference per sentence."""
    bleu = make_bleu(tokenizer)
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())
