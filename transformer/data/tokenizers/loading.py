"""Loads a run's tokenizer, whatever its kind."""

from pathlib import Path

from transformer.data.tokenizers.characters import load_character_tokenizer
from transformer.data.tokenizers.custom import load_custom_tokenizer, names_custom
from transformer.data.tokenizers.marian import LARGEST_FILE, load_marian_tokenizer
from transformer.data.tokenizers.moses import load_moses_tokenizer, names_moses
from transformer.data.tokenizers.pair import SOURCE, TARGET, PairTokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import SentencePieceTokenizer
from transformer.files import read_bounded


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Load the tokenizer, of any kind, that `save` wrote to `path`. Raises `ValueError` if this fails."""
    path = Path(path)
    try:
        if (path / SOURCE).exists():
            return PairTokenizer(load_tokenizer(path / SOURCE), load_tokenizer(path / TARGET))
        if path.is_dir():
            return load_marian_tokenizer(path)
        model = read_bounded(path, LARGEST_FILE)
        if names_custom(model):
            return load_custom_tokenizer(model)
        if model.startswith(b"{"):
            return (load_moses_tokenizer if names_moses(model) else load_character_tokenizer)(model)
        return SentencePieceTokenizer(model)
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}; the tokenizer cannot be read") from None
    except RuntimeError:
        raise ValueError(f"{path}: not a SentencePiece model, or a damaged one") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
