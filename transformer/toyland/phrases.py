"""Noun phrases, places, times and numbers."""

from typing import NamedTuple

from transformer.toyland.clock import AT_CLOCK_TIMES
from transformer.toyland.draft import Draft
from transformer.toyland.inflection import (
    ACCUSATIVE,
    DATIVE,
    FEMININE,
    FIRST,
    MANY,
    NEUTER,
    NO,
    NO_MASS,
    NOMINATIVE,
    PLURAL,
    POSSESSIVES,
    STRONG,
    THE,
    THIRD,
    THIS,
    A,
    Determiner,
    Noun,
    nouns_of,
)
from transformer.toyland.numbers import english_number, german_number
from transformer.toyland.tree import Branch, Leaf, Node


class Phrase(NamedTuple):
    """A noun phrase with the properties that its clause needs; `noun` is None for names and pronouns."""

    node: Node
    person: int
    noun: Noun | None = None
    plural: bool = False
    # Whether the phrase contains `kein`; if it does, the clause needs no `nicht`.
    negates: bool = False


_PRONOUNS = (
    *[Phrase(Leaf("PRP", "I", "ich"), FIRST)] * 2,  # twice as likely, because `ich` has its own verb forms
    Phrase(Leaf("PRP", "we", "wir"), MANY),
    Phrase(Leaf("PRP", "he", "er"), THIRD),
    Phrase(Leaf("PRP", "she", "sie"), THIRD),
)
_IN = Leaf("IN", "in", "in")
_INTO = Leaf("IN", "into", "in")
# German contracts some prepositions with the article: im, ins.
_IN_THE = Leaf("IN", "in the", "im")
_INTO_THE = Leaf("IN", "into the", "ins")

PLACES = nouns_of("place")


def noun_phrase(
    draft: Draft, noun: Noun, determiner: Determiner | None, plural: bool, case: int, adjectives: float
) -> list[Node]:
    """Determiner, adjective and noun in agreement; `adjectives` is the probability of an adjective."""
    column = PLURAL if plural else noun.gender
    children: list[Node] = []
    vowel = noun.vowel
    if draft.random() < adjectives:
        adjective = draft.pick(noun.adjectives)
        endings = determiner.adjective if determiner else STRONG
        children.append(adjective.attributive[endings[column][case]])
        vowel = adjective.vowel
        draft.mark("agreement")
    if determiner:
        leaves = determiner.before_vowel if vowel else determiner.leaves
        children.insert(0, leaves[column][case])
    children.append(noun.forms[plural][case])
    draft.said(children)
    return children


def counted(draft: Draft, number: int, noun: Noun, case: int, adjectives: float) -> Branch:
    """A number and a noun, as in `three red apples`."""
    children = noun_phrase(draft, noun, None, True, case, adjectives)
    return Branch("NP", (number_leaf(draft, number), *children))


def number_leaf(draft: Draft, number: int) -> Leaf:
    """A number in front of a noun."""
    draft.mark("number")
    draft.numbers.append(number)
    return Leaf("CD", english_number(number), german_number(number))


def small_number(draft: Draft) -> int:
    """A number that is plausible in everyday sentences: usually 2 to 12, at most 31."""
    share = draft.random()
    return draft.whole(share, 2, 11 if draft.random() < 0.8 else 30)


def large_number(draft: Draft) -> int:
    """A number of any magnitude up to 999,999.

    Numbers that end in 01 are left out, because before a noun there are several ways to write them in German
    (hunderteins, hundertein, hundertundein).
    """
    limits = (98, 900, 900, 9_000, 9_000, 90_000, 900_000)
    limit = draft.pick(limits)
    number = draft.whole(draft.random(), 2 if limit == 98 else limit // 9, limit)
    return number + 1 if number % 100 == 1 else number


def name_leaf(draft: Draft) -> Leaf:
    """An invented name, the same in both languages."""
    draft.mark("name")
    name = draft.name()
    return Leaf("NNP", name, name)


def subject(
    draft: Draft,
    nouns: tuple[Noun, ...],
    negated: bool = False,
    nouns_only: bool = False,
    singular: bool = False,
    adjectives: float = 0.22,
) -> Phrase:
    """The subject of a clause; a person may also be a pronoun or a name."""
    noun = draft.pick(nouns)
    choice = draft.random()
    if "person" in noun.kinds and not nouns_only:
        if choice < 0.2:
            return draft.pick(_PRONOUNS)
        if choice < 0.36:
            return Phrase(name_leaf(draft), THIRD)
    plural = noun.has_plural and not singular and draft.random() < 0.25
    choice = draft.random()
    if plural and not negated and choice < 0.08:
        return Phrase(counted(draft, small_number(draft), noun, NOMINATIVE, adjectives), MANY, noun, True)
    determiner = _determiner(draft, noun, plural, indefinite=0.0 if plural or negated else 0.12)
    children = noun_phrase(draft, noun, determiner, plural, NOMINATIVE, adjectives)
    return Phrase(Branch("NP", tuple(children)), MANY if plural else THIRD, noun, plural)


def thing(
    draft: Draft,
    noun: Noun,
    case: int,
    negated: bool = False,
    singular: bool = False,
    adjectives: float = 0.35,
) -> Phrase:
    """A direct object. In a negated clause, an indefinite object takes `kein`."""
    person = "person" in noun.kinds
    if person and draft.random() < 0.25:
        return Phrase(name_leaf(draft), THIRD)
    plural = noun.has_plural and not singular and draft.random() < 0.28
    if plural and not negated and draft.random() < 0.25:
        return Phrase(counted(draft, small_number(draft), noun, case, adjectives), MANY, noun, True)
    # An object that is a person is usually definite, because people visit somebody they know.
    indefinite = 0.45 if not person else 0.0 if plural else 0.1
    determiner: Determiner | None = _determiner(draft, noun, plural, indefinite)
    negates = False
    if determiner is A:
        mass = "mass" in noun.kinds
        if negated:
            determiner, negates = (NO_MASS if mass else NO), True
        elif mass or plural:
            determiner = None
    children = noun_phrase(draft, noun, determiner, plural, case, adjectives)
    return Phrase(Branch("NP", tuple(children)), MANY if plural else THIRD, noun, plural, negates)


def _determiner(draft: Draft, noun: Noun, plural: bool, indefinite: float) -> Determiner:
    choice = draft.random()
    if "family" in noun.kinds:
        return draft.pick(POSSESSIVES) if not plural and choice < 0.4 else THE
    if choice < indefinite:
        return A
    rest = (choice - indefinite) / (1.0 - indefinite)
    if rest < 0.12:
        return THIS
    # A noun for a person takes a possessive only in the singular (`my friend`), others in the plural too.
    if "own" in noun.kinds and not (plural and "person" in noun.kinds) and rest < 0.32:
        return draft.pick(POSSESSIVES)
    return THE


def receiver(draft: Draft) -> Phrase:
    """A person in the dative: a name or a definite noun phrase."""
    if draft.random() < 0.2:
        return Phrase(name_leaf(draft), THIRD)
    noun = draft.pick(_PEOPLE)
    plural = draft.random() < 0.2
    determiner = _determiner(draft, noun, plural, indefinite=0.0)
    children = noun_phrase(draft, noun, determiner, plural, DATIVE, 0.2)
    return Phrase(Branch("NP", tuple(children)), THIRD, noun, plural)


_PEOPLE = nouns_of("person")


def place(draft: Draft, case: int = DATIVE, noun: Noun | None = None) -> Branch:
    """A place such as `in the garden` or, in the accusative, a goal such as `into the garden`."""
    noun = noun or draft.pick(PLACES)
    determiner = _determiner(draft, noun, False, indefinite=0.1)
    children = noun_phrase(draft, noun, determiner, False, case, 0.25)
    goal = case == ACCUSATIVE
    joins = noun.gender == NEUTER if goal else noun.gender != FEMININE
    if determiner is THE and joins:
        children[0] = _INTO_THE if goal else _IN_THE
        return Branch("PP", tuple(children))
    return Branch("PP", (_INTO if goal else _IN, Branch("NP", tuple(children))))


def _time(*words: str) -> Branch:
    return Branch("NP", tuple(Leaf("TIME", *word.split("=")) for word in words))


TODAY = _time("today=heute")
_WEEKDAYS = tuple(
    _time("on=am", day)
    for day in (
        "Monday=Montag",
        "Tuesday=Dienstag",
        "Wednesday=Mittwoch",
        "Thursday=Donnerstag",
        "Friday=Freitag",
    )
)
PRESENT_TIMES = (
    TODAY,
    TODAY,
    _time("every=jeden", "day=Tag"),
    _time("every=jeden", "morning=Morgen"),
    _time("in the=am", "evening=Abend"),
    *_WEEKDAYS[:3],
)
PERFECT_TIMES = (TODAY, TODAY, _time("this=heute", "morning=Morgen"), _time("this=diese", "week=Woche"))
MODAL_TIMES = (
    TODAY,
    _time("tomorrow=morgen"),
    _time("tomorrow=morgen"),
    _time("now=jetzt"),
    _time("next=nächste", "week=Woche"),
    *_WEEKDAYS,
)


def at_clock_time(draft: Draft) -> Branch:
    """A time of day, as in `at half past nine`."""
    draft.mark("clock")
    return draft.pick(AT_CLOCK_TIMES)
