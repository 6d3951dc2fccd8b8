"""Number words up to 999,999 in both languages.

English numbers are written the British way (`one hundred and one`). German numbers always use the long
regular forms (`einhundert`, `eintausend`), so that an English word always has the same German counterpart.
"""

_SMALL = """
zero null one eins two zwei three drei four vier five fünf six sechs seven sieben eight acht nine neun
ten zehn eleven elf twelve zwölf thirteen dreizehn fourteen vierzehn fifteen fünfzehn sixteen sechzehn
seventeen siebzehn eighteen achtzehn nineteen neunzehn
"""
_TENS = """
twenty zwanzig thirty dreißig forty vierzig fifty fünfzig sixty sechzig seventy siebzig eighty achtzig
ninety neunzig
"""
ENGLISH_SMALL, GERMAN_SMALL = _SMALL.split()[0::2], _SMALL.split()[1::2]
ENGLISH_TENS, GERMAN_TENS = ["", "", *_TENS.split()[0::2]], ["", "", *_TENS.split()[1::2]]


def english_number(number: int) -> str:
    """A number from 0 to 999,999 in words, such as `one thousand and twenty-one`."""
    _check(number)
    if number < 20:
        return ENGLISH_SMALL[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return ENGLISH_TENS[tens] + (f"-{ENGLISH_SMALL[units]}" if units else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, size)
    words = f"{english_number(count)} {name}"
    if rest:
        words += f" and {english_number(rest)}" if rest < 100 else f" {english_number(rest)}"
    return words


def german_number(number: int) -> str:
    """A number from 0 to 999,999 as one German word. 1 is `eins` at the end of the word, otherwise `ein`."""
    _check(number)
    if number == 0:
        return GERMAN_SMALL[0]
    thousands, rest = divmod(number, 1000)
    word = f"{_below_thousand(thousands, 'ein')}tausend" if thousands else ""
    return word + _below_thousand(rest, "eins")


def _below_thousand(number: int, one: str) -> str:
    """A number below 1,000 as a German word; empty for 0.

    `one` is the form of a 1 at the end: `ein` if `tausend` follows, otherwise `eins`.
    """
    hundreds, rest = divmod(number, 100)
    word = f"{_joined(hundreds)}hundert" if hundreds else ""
    if rest == 0:
        return word
    if rest == 1:
        return word + one
    if rest < 20:
        return word + GERMAN_SMALL[rest]
    tens, units = divmod(rest, 10)
    return word + (f"{_joined(units)}und" if units else "") + GERMAN_TENS[tens]


def _joined(digit: int) -> str:
    return "ein" if digit == 1 else GERMAN_SMALL[digit]


def _check(number: int) -> None:
    if not 0 <= number <= 999_999:
        raise ValueError(f"{number:,} cannot be written in words; the range is 0 to 999,999")
