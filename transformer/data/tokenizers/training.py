"""Trains the tokenizer that the setting `data.tokenizer` names."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

from transformer.config import DataConfig
from transformer.config.checks import require
from transformer.data.tokenizers.characters import train_character_tokenizer
from transformer.data.tokenizers.moses import train_moses_tokenizer
from transformer.data.tokenizers.pair import PairTokenizer
from transformer.data.tokenizers.protocol import Tokenizer
from transformer.data.tokenizers.sentence_piece import train_tokenizer

Texts = Iterable[str]


def make_tokenizer(data: DataConfig, *sides: Texts) -> Tokenizer:
    """Train the tokenizer that `data` describes on source and target lines, or on a single corpus.

    The source and the target share one vocabulary, unless `data.target_vocab_size` is set.
    """
    make = TOKENIZERS[data.tokenizer]
    if data.target_vocab_size is None:
        return make(data, *sides)
    source, target = sides
    return PairTokenizer(make(data, source), make(replace(data, vocab_size=data.target_vocab_size), target))


def sentence_piece(data: DataConfig, *sides: Texts) -> Tokenizer:
    lines = chain(*sides)
    return train_tokenizer(lines, vocab_size=data.vocab_size, normalization=data.normalization)


def characters(_: DataConfig, *sides: Texts) -> Tokenizer:
    return train_character_tokenizer(chain(*sides))


def moses(data: DataConfig, *sides: Texts) -> Tokenizer:
    require(len(sides) == 2, "data.tokenizer moses works only for translation")
    return train_moses_tokenizer(*sides, vocab_size=data.vocab_size, source=data.source, target=data.target)


TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "sentencepiece": sentence_piece,
    "characters": characters,
    "moses": moses,
}
"""For each value of `data.tokenizer`, the function that trains the tokenizer, called as `(data, *sides)`."""
