"""The lexicon's words in all their forms. Each form is a leaf that can be put into a tree unchanged."""

from typing import NamedTuple

from transformer.toyland import lexicon
from transformer.toyland.tree import Leaf

NOMINATIVE, ACCUSATIVE, DATIVE = 0, 1, 2
MASCULINE, FEMININE, NEUTER, PLURAL = 0, 1, 2, 3
FIRST, THIRD, MANY = 0, 1, 2  # persons of a verb: I, he or she, and the plural

_GENDERS = {"m": MASCULINE, "f": FEMININE, "n": NEUTER}


def _table(masculine: str, feminine: str, neuter: str, plural: str) -> tuple[list[str], ...]:
    """Split each argument into nominative, accusative and dative. `-` stands for an empty ending."""
    return tuple(column.replace("-", "").split(" ") for column in (masculine, feminine, neuter, plural))


DEFINITE = _table("der den dem", "die die der", "das das dem", "die die den")
_DIES_ENDINGS = _table("er en em", "e e er", "es es em", "e e en")
_EIN_ENDINGS = _table("- en em", "e e er", "- - em", "e e en")

# Adjective endings: WEAK after der and dieser; MIXED after ein, kein and mein; STRONG without a determiner.
WEAK = _table("e en en", "e e en", "e e en", "en en en")
MIXED = _table("er en en", "e e en", "es es en", "en en en")
STRONG = _table("er en em", "e e er", "es es em", "e e en")

RELATIVE_PRONOUNS = _table("der den dem", "die die der", "das das dem", "die die denen")
IT = _table("er ihn ihm", "sie sie ihr", "es es ihm", "sie sie ihnen")


class Determiner(NamedTuple):
    """A determiner's forms, as `leaves[column][case]`, and the endings of adjectives after it.

    A column is a gender, or PLURAL. `before_vowel` has the same forms as `leaves`, except that `a` is `an`.
    """

    leaves: tuple[tuple[Leaf, ...], ...]
    before_vowel: tuple[tuple[Leaf, ...], ...]
    adjective: tuple[list[str], ...]


def _determiner(
    english: str, many: str, german: tuple[list[str], ...], adjective: tuple[list[str], ...], link: str = ""
) -> Determiner:
    def leaves(singular: str) -> tuple[tuple[Leaf, ...], ...]:
        return tuple(
            tuple(Leaf("DT", many if column == PLURAL else singular, form, link) for form in german[column])
            for column in range(4)
        )

    return Determiner(leaves(english), leaves("an" if english == "a" else english), adjective)


def _with_endings(stem: str, endings: tuple[list[str], ...]) -> tuple[list[str], ...]:
    return tuple([stem + ending for ending in column] for column in endings)


THE = _determiner("the", "the", DEFINITE, WEAK)
THIS = _determiner("this", "these", _with_endings("dies", _DIES_ENDINGS), WEAK)
A = _determiner("a", "", _with_endings("ein", _EIN_ENDINGS), MIXED)
NO = _determiner("a", "", _with_endings("kein", _EIN_ENDINGS), MIXED, link="negation")
# The determiner of a negated mass noun: `does not drink milk` is `trinkt keine Milch`.
NO_MASS = _determiner("", "", _with_endings("kein", _EIN_ENDINGS), MIXED, link="negation")
POSSESSIVES = tuple(
    _determiner(english, english, _with_endings(german, _EIN_ENDINGS), MIXED)
    for english, german in (("my", "mein"), ("our", "unser"), ("his", "sein"), ("her", "ihr"))
)


class Adjective(NamedTuple):
    """An adjective: `attributive` has a leaf for each German ending, and `predicative` has no ending."""

    english: str
    attributive: dict[str, Leaf]
    predicative: Leaf
    kinds: frozenset[str]
    vowel: bool


class Noun(NamedTuple):
    """A noun's forms, as `forms[plural][case]`, and the adjectives that suit it."""

    english: str
    gender: int
    forms: tuple[tuple[Leaf, ...], tuple[Leaf, ...]]
    kinds: frozenset[str]
    adjectives: tuple[Adjective, ...]
    vowel: bool
    has_plural: bool


class Verb(NamedTuple):
    """The leaves of a verb; tuples of leaves are indexed by person.

    The `supported` forms are used with English `do`. The `final` forms end a German subordinate clause, where
    the separable prefix is joined to the verb.
    """

    english: str
    finite: tuple[Leaf, ...]
    finite_supported: tuple[Leaf, ...]
    final: tuple[Leaf, ...]
    final_supported: tuple[Leaf, ...]
    prefix: Leaf | None
    have: tuple[Leaf, ...]
    participle: Leaf
    infinitive: Leaf
    to_infinitive: Leaf
    subjects: tuple[str, ...]
    objects: tuple[str, ...]
    at_place: bool
    state: bool
    sense: bool


def _is_vowel(word: str) -> bool:
    return word[0] in "aeiou"


def _adjective(row: str) -> Adjective:
    english, german, *kinds = row.split()
    stem = german.removesuffix("e")  # `müde` has the stem `müd`, as in `müder`
    attributive = {ending: Leaf("JJ", english, stem + ending) for ending in ("e", "en", "er", "es", "em")}
    return Adjective(english, attributive, Leaf("JJ", english, german), frozenset(kinds), _is_vowel(english))


def _noun(row: str) -> Noun:
    english, english_plural, german, gender, plural, *kinds = row.split()
    oblique = german + "n" if "weak" in kinds else german
    dative_plural = plural if plural.endswith(("n", "s", "_")) else plural + "n"
    singular_forms = tuple(Leaf("NN", english, form) for form in (german, oblique, oblique))
    plural_forms = tuple(Leaf("NNS", english_plural, form) for form in (plural, plural, dative_plural))
    adjectives = tuple(adjective for adjective in ADJECTIVES if adjective.kinds.intersection(kinds))
    return Noun(
        english,
        _GENDERS[gender],
        (singular_forms, plural_forms),
        frozenset(kinds),
        adjectives,
        _is_vowel(english),
        plural != "_",
    )


_GERMAN_HAVE = {"haben": ("habe", "hat", "haben"), "sein": ("bin", "ist", "sind")}
_HAVE = ("have", "has", "have")


def _verb(row: str) -> Verb:
    english, german, subjects, objects, flags = row.rsplit(" |", 4)
    base, third, past = (part.strip() for part in (english.split("|") if "|" in english else english.split()))
    infinitive, german_third, german_past, auxiliary, prefix = german.split()
    prefix = prefix.replace("_", "")
    # `weiß` is the form for both `ich` and `er`; all other verbs take -e with `ich`.
    first = german_third if infinitive == "wissen" else infinitive[:-1]
    forms = (first, german_third, infinitive)
    link = "verb" if prefix else ""

    def leaves(words: tuple[str, ...], germans: tuple[str, ...], link: str) -> tuple[Leaf, ...]:
        return tuple(Leaf("VB", word, form, link) for word, form in zip(words, germans, strict=True))

    finite = (base, third, base)
    joined = tuple(prefix + form for form in forms)
    return Verb(
        english=base,
        finite=leaves(finite, forms, link),
        finite_supported=leaves((base,) * 3, forms, "verb"),
        final=leaves(finite, joined, ""),
        final_supported=leaves((base,) * 3, joined, "verb"),
        prefix=Leaf("PREFIX", "", prefix, "verb") if prefix else None,
        have=leaves(_HAVE, _GERMAN_HAVE[auxiliary], ""),
        participle=Leaf("VBN", past, prefix + german_past),
        infinitive=Leaf("VB", base, prefix + infinitive),
        to_infinitive=Leaf("VB", f"to {base}", prefix + infinitive),
        subjects=tuple(subjects.split()),
        objects=tuple(objects.replace("_", "").split()),
        at_place="place" in flags,
        state="state" in flags,
        sense="sense" in flags,
    )


def _rows(table: str) -> list[str]:
    return table.strip().split("\n")


ADJECTIVES = tuple(map(_adjective, _rows(lexicon.ADJECTIVES)))
NOUNS = tuple(map(_noun, _rows(lexicon.NOUNS)))
NOUN = {noun.english: noun for noun in NOUNS}


def _verbs(table: str) -> tuple[Verb, ...]:
    return tuple(map(_verb, _rows(table)))


VERBS = _verbs(lexicon.VERBS)
DATIVE_VERBS = _verbs(lexicon.DATIVE_VERBS)
GIVING_VERBS = _verbs(lexicon.GIVING_VERBS)
MOTION_VERBS = _verbs(lexicon.MOTION_VERBS)
TRAVEL_VERBS = _verbs(lexicon.TRAVEL_VERBS)
HOME_VERBS = _verbs(lexicon.HOME_VERBS)
SAYING_VERBS = _verbs(lexicon.SAYING_VERBS)


def nouns_of(*kinds: str) -> tuple[Noun, ...]:
    """The nouns that have at least one of these kinds."""
    return tuple(noun for noun in NOUNS if noun.kinds.intersection(kinds))
