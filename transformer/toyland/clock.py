"""Times of day on a twelve-hour clock, in steps of five minutes.

German names the coming hour after `halb`: `halb zehn` is half past nine.
"""

from transformer.toyland.numbers import ENGLISH_SMALL, GERMAN_SMALL
from transformer.toyland.tree import Branch, Leaf

# For each minute: the English and the German words before the hour, then one number for English and one
# for German: 1 if the language names the coming hour, 0 if it names the current hour.
_MINUTES: dict[int, tuple[str, str, int, int]] = {
    5: ("five past", "fünf nach", 0, 0),
    10: ("ten past", "zehn nach", 0, 0),
    15: ("a quarter past", "Viertel nach", 0, 0),
    20: ("twenty past", "zwanzig nach", 0, 0),
    25: ("twenty-five past", "fünf vor halb", 0, 1),
    30: ("half past", "halb", 0, 1),
    35: ("twenty-five to", "fünf nach halb", 1, 1),
    40: ("twenty to", "zwanzig vor", 1, 1),
    45: ("a quarter to", "Viertel vor", 1, 1),
    50: ("ten to", "zehn vor", 1, 1),
    55: ("five to", "fünf vor", 1, 1),
}


def clock_time(hour: int, minute: int) -> Branch:
    """`half past nine` / `halb zehn` for 9:30; hour 1 to 12, minute a multiple of five."""
    if minute == 0:
        # Before `Uhr`, `eins` loses its s: `ein Uhr`, but `halb eins`.
        german = "ein" if hour == 1 else GERMAN_SMALL[hour]
        return Branch("CLOCK", (Leaf("CD", ENGLISH_SMALL[hour], german), Leaf("NN", "o'clock", "Uhr")))
    english, german, english_ahead, german_ahead = _MINUTES[minute]
    english_hour = ENGLISH_SMALL[_ahead(hour, english_ahead)]
    german_hour = GERMAN_SMALL[_ahead(hour, german_ahead)]
    return Branch("CLOCK", (Leaf("MINUTE", english, german), Leaf("CD", english_hour, german_hour)))


def _ahead(hour: int, hours: int) -> int:
    return (hour - 1 + hours) % 12 + 1


CLOCK_TIMES = tuple(clock_time(hour, minute) for hour in range(1, 13) for minute in range(0, 60, 5))
AT_CLOCK_TIMES = tuple(Branch("PP", (Leaf("IN", "at", "um"), time)) for time in CLOCK_TIMES)
