"""BLEU by the paper's procedure (Table 2): words by Moses' rules, hyphenated compounds split.

The procedure is that of the authors' script `get_ende_bleu.sh` in Tensor2Tensor: Moses' tokenizer, then a
Perl substitution that splits compounds, then `multi-bleu.perl`. sacreBLEU without a tokenizer computes the
same score as `multi-bleu.perl`, except where no 4-gram matches. The script also escapes characters such as
quotes, but this does not change which words match.
"""

import re
from collections.abc import Callable, Sequence

from transformer.config.errors import install_extra
from transformer.evaluation.metrics import tokenized_bleu

COMPOUND = re.compile(r"(\S)-(\S)")


def split_compounds(words: str) -> str:
    """Split words at hyphens: `rich-text format` becomes `rich ##AT##-##AT## text format`.

    As in the script, `a-b-c` is split only at the first hyphen, because two matches cannot share the letter.
    """
    return COMPOUND.sub(r"\1 ##AT##-##AT## \2", words)


def paper_words(language: str) -> Callable[[str], str]:
    """Return a function that splits a line into words by the paper's procedure, and joins them with spaces.

    Raises `ValueError` if sacremoses is not installed.
    """
    try:
        import sacremoses
    except ImportError:
        raise ValueError(
            f"BLEU by the paper's procedure needs sacremoses; {install_extra('moses')}"
        ) from None
    tokenizer = sacremoses.MosesTokenizer(lang=language)
    return lambda line: split_compounds(tokenizer.tokenize(line, escape=False, return_str=True))


def paper_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """Return the score and sacreBLEU's signature.

    The score cannot be compared with scores that use sacreBLEU's own tokenizers.
    """
    return tokenized_bleu(hypotheses, references, paper_words(language))
