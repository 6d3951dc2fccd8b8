"""Numbers, names and pairs of words that never occur in training, for the generalisation splits."""

from functools import cache
from zlib import crc32

from transformer.toyland.draft import Draft
from transformer.toyland.names import new_name

# One number in a thousand is held out. The salt was chosen so that these numbers do not occur in the first
# 200,000 training sentences or in the first few thousand sentences of valid and test. So these sentences
# stayed the same when the split `new_numbers` was added.
_ONE_IN, _SALT = 1000, 1621

# Each row has an adjective or verb, and nouns that it is never combined with in training. The pairs are
# plausible, but lexicon.py does not allow them: the kinds of the words (`animal`, `food`, ...) decide
# which words can be combined.
ADJECTIVE_PAIRS = """
happy dog cat horse bird cow pig duck
sad dog cat horse bird
clever dog cat horse bird pig
friendly dog cat horse
small hat coat shirt skirt jacket dress book newspaper bottle egg potato
big hat coat bottle potato egg cake tomato
green bottle pear
red bottle pear
blue bottle
white egg bottle
cold soup potato
sweet tea coffee milk juice tomato
fresh milk juice water coffee
cheap key bottle box horse cow
heavy book newspaper bicycle boat car
beautiful poem story novel book boat bicycle
exciting letter poem picture
dirty dog cat horse pig potato window door
clean window door dog horse
empty car bus boat
"""
VERB_PAIRS = """
wash dog horse cat car cup bottle apple potato bicycle
paint boat table chair apple banana hat bottle
look|for letter poem apple car bicycle boat
find letter poem egg apple car bicycle
see letter lamp hat book flower key cake
bring|along letter milk juice coat hat shirt bicycle
open letter
close book
repair bag coat door window picture
buy bottle dog horse cow
sell dog horse cow bird
love coffee tea book novel
hear train bus story
cook coffee tea
need dog horse key box bottle
wear bag
"""


def is_held_out(number: int) -> bool:
    """Whether this number is reserved for the split `new_numbers`."""
    return crc32(number.to_bytes(4, "little"), _SALT) % _ONE_IN == 0


@cache
def held_out_numbers(first: int, count: int) -> tuple[int, ...]:
    """The held-out numbers among the `count` whole numbers that start at `first`."""
    return tuple(filter(is_held_out, range(first, first + count)))


class NewNumbers(Draft):
    """A draft that chooses a held-out number from every range that contains one."""

    __slots__ = ()

    def whole(self, share: float, first: int, count: int) -> int:
        numbers = held_out_numbers(first, count)
        return numbers[int(share * len(numbers))] if numbers else super().whole(share, first, count)


class NewNames(Draft):
    """A draft that chooses names with endings that do not occur in training."""

    __slots__ = ()

    def name(self) -> str:
        return new_name(self.random)


def pairs(table: str) -> dict[str, tuple[str, ...]]:
    """Map the first word of each row to the other words; a `|` in the first word stands for a space."""
    rows = (line.split() for line in table.strip().split("\n"))
    return {first.replace("|", " "): tuple(others) for first, *others in rows}
