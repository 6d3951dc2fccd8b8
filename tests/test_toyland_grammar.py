"""Hand-written German: paradigms, numbers, times of day, and sentences for every phenomenon."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

from transformer.toyland import clauses, inflection
from transformer.toyland.clauses import (
    ASKED,
    BECAUSE,
    COMMA,
    FINAL,
    FRONTED,
    GERMAN_COMMA,
    MODAL,
    PERFECT,
    PLAIN,
    PRESENT,
    QUESTION_MARK,
    STOP,
    THAT,
    Clause,
    sentence,
)
from transformer.toyland.clock import AT_CLOCK_TIMES, clock_time
from transformer.toyland.draft import PHENOMENA, Draft
from transformer.toyland.inflection import (
    ACCUSATIVE,
    DATIVE,
    FIRST,
    IT,
    MANY,
    NO,
    NOMINATIVE,
    NOUN,
    RELATIVE_PRONOUNS,
    THE,
    THIRD,
    THIS,
    A,
    Determiner,
    Verb,
)
from transformer.toyland.numbers import english_number, german_number
from transformer.toyland.phrases import TODAY, counted, noun_phrase
from transformer.toyland.phrases import place as place_phrase
from transformer.toyland.tree import Branch, Leaf, Node, english_text, german_text

T = TypeVar("T")
VERB: dict[str, Verb] = {
    verb.english: verb
    for verb in (
        *inflection.SAYING_VERBS,
        *inflection.HOME_VERBS,
        *inflection.TRAVEL_VERBS,
        *inflection.MOTION_VERBS,
        *inflection.GIVING_VERBS,
        *inflection.DATIVE_VERBS,
        *inflection.VERBS,
    )
}


class Chosen(Draft):
    """A draft that chooses the given words, and otherwise always the most likely option."""

    def __init__(self, *words: str) -> None:
        super().__init__(lambda: 0.99)
        self.words = words

    def pick(self, options: Sequence[T]) -> T:
        def english(option: Any) -> str:
            return option.english if hasattr(option, "english") else option.finite[0].english

        return next(option for option in options if english(option) in self.words)


def np(
    english: str,
    determiner: Determiner | None = THE,
    case: int = NOMINATIVE,
    *,
    plural: bool = False,
    adjective: str | None = None,
    relative: Branch | None = None,
) -> Branch:
    """A noun phrase, to be written out or used in a clause."""
    draft = Chosen(adjective or "")
    children = noun_phrase(draft, NOUN[english], determiner, plural, case, 1.0 if adjective else 0.0)
    return Branch("NP", (*children, relative) if relative else tuple(children))


def clause(
    subject: Node | None,
    verb: str,
    shape: int = PLAIN,
    tense: int = PRESENT,
    *,
    person: int = THIRD,
    modal: str = "",
    negated: bool = False,
    kein: bool = False,
    **roles: Node,
) -> Branch:
    """A finished clause; `roles` have the names of the constants in `clauses`, in lower case."""
    made = Clause(Chosen(modal), shape, tense, negated)
    made.person = person
    made.kein = kein
    made.roles[clauses.SUBJECT] = subject
    for role, node in roles.items():
        made.roles[getattr(clauses, role.upper())] = node
    if verb == "be":
        made.add_copula(roles["goal"])
    else:
        made.add_verb(VERB[verb])
    return made.finish()


def relative(english: str, german: str, verb: str, subject: Node | None = None, **more: Any) -> Branch:
    commas = {"opening": GERMAN_COMMA, "closing": GERMAN_COMMA}
    return clause(subject, verb, FINAL, link=Leaf("WP", english, german), **commas, **more)


def old() -> Leaf:
    return next(a for a in inflection.ADJECTIVES if a.english == "old").predicative


def word(english: str, german: str) -> Leaf:
    return Leaf("WORD", english, german)


SHE = word("she", "sie")
VELMORA = word("Velmora", "Velmora")
CAKE = np("cake", A, ACCUSATIVE)
NO_CAKE = np("cake", NO, ACCUSATIVE)
THE_CAKE = np("cake", THE, ACCUSATIVE)
THE_DOOR = np("door", THE, ACCUSATIVE)
THE_BOOK = np("book", THE, ACCUSATIVE)
A_BOOK = np("book", A, ACCUSATIVE)
BOY = np("boy")
AT_HALF_PAST_NINE = AT_CLOCK_TIMES[8 * 12 + 6]
TO_THE_CHILD = Branch("PP", (word("to", ""), np("child", THE, DATIVE)))
IN_GARDEN = place_phrase(Chosen(), DATIVE, NOUN["garden"])
INTO_HOUSE = place_phrase(Chosen(), ACCUSATIVE, NOUN["house"])
INTO_KITCHEN = place_phrase(Chosen(), ACCUSATIVE, NOUN["kitchen"])

# Phenomenon, English, German, and the tree, built from its parts.
# fmt: off
GOLD: list[tuple[str, str, str, Branch]] = [
    ("verb_second", "Today the boy buys a cake.", "Heute kauft der Junge einen Kuchen.",
     sentence(clause(BOY, "buy", FRONTED, front=TODAY, object=CAKE))),
    ("verb_second", "In the garden the boy has sung today.", "Im Garten hat der Junge heute gesungen.",
     sentence(clause(BOY, "sing", FRONTED, PERFECT, front=IN_GARDEN, time=TODAY))),
    ("verb_second", "The boy buys a cake today.", "Der Junge kauft heute einen Kuchen.",
     sentence(clause(BOY, "buy", object=CAKE, time=TODAY))),
    ("perfect", "The boy has bought a cake.", "Der Junge hat einen Kuchen gekauft.",
     sentence(clause(BOY, "buy", PLAIN, PERFECT, object=CAKE))),
    ("perfect", "I have gone into the house.", "Ich bin ins Haus gegangen.",
     sentence(clause(word("I", "ich"), "go", PLAIN, PERFECT, person=FIRST, goal=INTO_HOUSE))),
    ("modal", "The boy must buy a cake.", "Der Junge muss einen Kuchen kaufen.",
     sentence(clause(BOY, "buy", PLAIN, MODAL, modal="must", object=CAKE))),
    ("modal", "We want to run into the kitchen.", "Wir wollen in die Küche laufen.",
     sentence(clause(word("we", "wir"), "run", PLAIN, MODAL, modal="want", person=MANY, goal=INTO_KITCHEN))),
    ("modal", "Does the boy want to sleep?", "Will der Junge schlafen?",
     sentence(clause(BOY, "sleep", ASKED, MODAL, modal="want"), mark=QUESTION_MARK)),
    ("separable", "The boy opens the door.", "Der Junge macht die Tür auf.",
     sentence(clause(BOY, "open", object=THE_DOOR))),
    ("separable", "The boy has opened the door.", "Der Junge hat die Tür aufgemacht.",
     sentence(clause(BOY, "open", PLAIN, PERFECT, object=THE_DOOR))),
    ("separable", "The boy should close the door.", "Der Junge sollte die Tür zumachen.",
     sentence(clause(BOY, "close", PLAIN, MODAL, modal="should", object=THE_DOOR))),
    ("subordinate", "She says that the boy opens the door.", "Sie sagt, dass der Junge die Tür aufmacht.",
     sentence(clause(SHE, "say"), GERMAN_COMMA,
              clause(BOY, "open", FINAL, link=THAT, object=THE_DOOR))),
    ("subordinate", "The boy sleeps because she has sung.", "Der Junge schläft, weil sie gesungen hat.",
     sentence(clause(BOY, "sleep"), GERMAN_COMMA,
              clause(SHE, "sing", FINAL, PERFECT, link=BECAUSE))),
    ("subordinate", "Because the boy sleeps, she waits.", "Weil der Junge schläft, wartet sie.",
     sentence(clause(BOY, "sleep", FINAL, link=BECAUSE), COMMA, clause(SHE, "wait", FRONTED))),
    ("relative", "The man who reads the book sleeps.", "Der Mann, der das Buch liest, schläft.",
     sentence(clause(np("man", relative=relative("who", "der", "read", object=THE_BOOK)), "sleep"))),
    ("relative", "She has a book that the boy wants to read.", "Sie hat ein Buch, das der Junge lesen will.",
     sentence(clause(SHE, "have", object=np("book", A, ACCUSATIVE, relative=relative(
         "that", "das", "read", BOY, tense=MODAL, modal="want"))))),
    ("relative", "The women whom the boy helps sleep.", "Die Frauen, denen der Junge hilft, schlafen.",
     sentence(clause(np("woman", plural=True, relative=relative("whom", "denen", "help", BOY)),
                     "sleep", person=MANY))),
    ("agreement", "A young woman helps this old teacher.", "Eine junge Frau hilft diesem alten Lehrer.",
     sentence(clause(np("woman", A, adjective="young"), "help",
                     object=np("teacher", THIS, DATIVE, adjective="old")))),
    ("agreement", "The boy drinks cold milk.", "Der Junge trinkt kalte Milch.",
     sentence(clause(BOY, "drink", object=np("milk", None, ACCUSATIVE, adjective="cold")))),
    ("dative", "The boy gives the child a book.", "Der Junge gibt dem Kind ein Buch.",
     sentence(clause(BOY, "give", receiver=np("child", THE, DATIVE), object=A_BOOK))),
    ("dative", "The boy gives a book to the child.", "Der Junge gibt dem Kind ein Buch.",
     sentence(clause(BOY, "give", to_receiver=TO_THE_CHILD, object=A_BOOK))),
    ("pronoun", "The boy has the lamp because it is old.", "Der Junge hat die Lampe, weil sie alt ist.",
     sentence(clause(BOY, "have", object=np("lamp", THE, ACCUSATIVE)), GERMAN_COMMA,
              clause(word("it", IT[NOUN["lamp"].gender][NOMINATIVE]), "be", FINAL, link=BECAUSE,
                     goal=old()))),
    ("pronoun", "The boy has the hat. The woman needs it.", "Der Junge hat den Hut. Die Frau braucht ihn.",
     sentence(clause(BOY, "have", object=np("hat", THE, ACCUSATIVE)), STOP,
              clause(np("woman"), "need", it_object=word("it", IT[NOUN["hat"].gender][ACCUSATIVE])))),
    ("negation", "The boy does not buy a cake.", "Der Junge kauft keinen Kuchen.",
     sentence(clause(BOY, "buy", negated=True, kein=True, object=NO_CAKE))),
    ("negation", "The boy does not buy the cake.", "Der Junge kauft den Kuchen nicht.",
     sentence(clause(BOY, "buy", negated=True, object=THE_CAKE))),
    ("negation", "The boy has not bought the cake.", "Der Junge hat den Kuchen nicht gekauft.",
     sentence(clause(BOY, "buy", PLAIN, PERFECT, negated=True, object=THE_CAKE))),
    ("negation", "The boy cannot open the door.", "Der Junge kann die Tür nicht aufmachen.",
     sentence(clause(BOY, "open", PLAIN, MODAL, modal="can", negated=True, object=THE_DOOR))),
    ("negation", "The boy does not open the door.", "Der Junge macht die Tür nicht auf.",
     sentence(clause(BOY, "open", negated=True, object=THE_DOOR))),
    ("negation", "The boy does not go into the house.", "Der Junge geht nicht ins Haus.",
     sentence(clause(BOY, "go", negated=True, goal=INTO_HOUSE))),
    ("negation", "The boy is not old.", "Der Junge ist nicht alt.",
     sentence(clause(BOY, "be", negated=True, goal=old()))),
    ("question", "Does the boy buy a cake?", "Kauft der Junge einen Kuchen?",
     sentence(clause(BOY, "buy", ASKED, object=CAKE), mark=QUESTION_MARK)),
    ("question", "Why does the boy not sleep?", "Warum schläft der Junge nicht?",
     sentence(clause(BOY, "sleep", ASKED, negated=True, front=word("why", "warum")), mark=QUESTION_MARK)),
    ("question", "When must the boy get up?", "Wann muss der Junge aufstehen?",
     sentence(clause(BOY, "get up", ASKED, MODAL, modal="must", front=word("when", "wann")),
              mark=QUESTION_MARK)),
    ("number", "The boy needs twenty-one red apples.", "Der Junge braucht einundzwanzig rote Äpfel.",
     sentence(clause(BOY, "need", object=Branch("NP", (
         word(english_number(21), german_number(21)),
         np("apple", None, ACCUSATIVE, plural=True, adjective="red")))))),
    ("clock", "At half past nine the boy gets up.", "Um halb zehn steht der Junge auf.",
     sentence(clause(BOY, "get up", FRONTED, front=AT_HALF_PAST_NINE))),
    ("name", "Velmora lives in Velmora.", "Velmora wohnt in Velmora.",
     sentence(clause(VELMORA, "live", goal=Branch("PP", (word("in", "in"), VELMORA))))),
]
# fmt: on


def test_every_phenomenon_has_a_sentence() -> None:
    assert {row[0] for row in GOLD} == set(PHENOMENA)


@pytest.mark.parametrize(
    ("english", "german", "tree"), [row[1:] for row in GOLD], ids=[row[1] for row in GOLD]
)
def test_sentence(english: str, german: str, tree: Branch) -> None:
    assert english_text(tree) == english
    assert german_text(tree) == german


DECLENSIONS = """
THE dog     | der alte Hund  | den alten Hund  | dem alten Hund
THE cat     | die alte Katze | die alte Katze  | der alten Katze
THE horse   | das alte Pferd | das alte Pferd  | dem alten Pferd
THE dogs    | die alten Hunde | die alten Hunde | den alten Hunden
THIS dog    | dieser alte Hund | diesen alten Hund | diesem alten Hund
THIS cat    | diese alte Katze | diese alte Katze | dieser alten Katze
THIS horse  | dieses alte Pferd | dieses alte Pferd | diesem alten Pferd
THIS dogs   | diese alten Hunde | diese alten Hunde | diesen alten Hunden
A dog       | ein alter Hund | einen alten Hund | einem alten Hund
A cat       | eine alte Katze | eine alte Katze | einer alten Katze
A horse     | ein altes Pferd | ein altes Pferd | einem alten Pferd
NO dog      | kein alter Hund | keinen alten Hund | keinem alten Hund
NO cat      | keine alte Katze | keine alte Katze | keiner alten Katze
NO horse    | kein altes Pferd | kein altes Pferd | keinem alten Pferd
NO dogs     | keine alten Hunde | keine alten Hunde | keinen alten Hunden
None dogs   | alte Hunde | alte Hunde | alten Hunden
"""


def test_declension() -> None:
    found = []
    for row in DECLENSIONS.strip().split("\n"):
        head = row.split("|")[0]
        determiner, english = head.split()
        chosen = None if determiner == "None" else getattr(inflection, determiner)
        name, plural = english.removesuffix("s"), english.endswith("s")
        phrases = [
            np(name, chosen, case, plural=plural, adjective="old")
            for case in (NOMINATIVE, ACCUSATIVE, DATIVE)
        ]
        found.append([head.strip(), *map(german_words, phrases)])
    assert found == [[part.strip() for part in row.split("|")] for row in DECLENSIONS.strip().split("\n")]


def german_words(tree: Branch) -> str:
    text = german_text(tree)
    return text[0].lower() + text[1:] if text.split()[0].lower() not in ("hunde", "milch") else text


@pytest.mark.parametrize(
    ("english", "forms"),
    [
        ("coffee", "kalter Kaffee | kalten Kaffee | kaltem Kaffee"),
        ("milk", "kalte Milch | kalte Milch | kalter Milch"),
        ("water", "kaltes Wasser | kaltes Wasser | kaltem Wasser"),
    ],
)
def test_strong_declension(english: str, forms: str) -> None:
    phrases = [np(english, None, case, adjective="cold") for case in (NOMINATIVE, ACCUSATIVE, DATIVE)]
    assert [german_words(phrase) for phrase in phrases] == forms.split(" | ")


def test_possessives() -> None:
    german = [german_words(np("friend", my, DATIVE, adjective="tired")) for my in inflection.POSSESSIVES]
    assert german == [f"{my} müden Freund" for my in ("meinem", "unserem", "seinem", "ihrem")]
    german = [german_words(np("cat", my, ACCUSATIVE)) for my in inflection.POSSESSIVES]
    assert german == [f"{my} Katze" for my in ("meine", "unsere", "seine", "ihre")]


def test_weak_noun() -> None:
    forms = [german_words(np("boy", A, case)) for case in (NOMINATIVE, ACCUSATIVE, DATIVE)]
    assert forms == ["ein Junge", "einen Jungen", "einem Jungen"]


def test_relative_pronouns() -> None:
    assert [" ".join(column) for column in RELATIVE_PRONOUNS] == [
        "der den dem",
        "die die der",
        "das das dem",
        "die die denen",
    ]


@pytest.mark.parametrize(("case", "english", "german"), [
    (DATIVE, "garden", "im Garten"), (DATIVE, "kitchen", "in der Küche"), (DATIVE, "house", "im Haus"),
    (ACCUSATIVE, "garden", "in den Garten"), (ACCUSATIVE, "kitchen", "in die Küche"),
    (ACCUSATIVE, "house", "ins Haus"),
])  # fmt: skip
def test_preposition_joins_the_article(case: int, english: str, german: str) -> None:
    assert german_words(place_phrase(Chosen(), case, NOUN[english])) == german


def test_counted_nouns_are_strong_plurals() -> None:
    phrase = counted(Chosen("big"), 17, NOUN["dog"], DATIVE, 1.0)
    assert english_text(phrase) == "Seventeen big dogs"
    assert german_words(phrase) == "siebzehn großen Hunden"


NUMBER_WORDS = [
    (0, "zero", "null"),
    (1, "one", "eins"),
    (7, "seven", "sieben"),
    (16, "sixteen", "sechzehn"),
    (17, "seventeen", "siebzehn"),
    (20, "twenty", "zwanzig"),
    (21, "twenty-one", "einundzwanzig"),
    (30, "thirty", "dreißig"),
    (66, "sixty-six", "sechsundsechzig"),
    (77, "seventy-seven", "siebenundsiebzig"),
    (100, "one hundred", "einhundert"),
    (101, "one hundred and one", "einhunderteins"),
    (111, "one hundred and eleven", "einhundertelf"),
    (612, "six hundred and twelve", "sechshundertzwölf"),
    (1_000, "one thousand", "eintausend"),
    (1_001, "one thousand and one", "eintausendeins"),
    (3_412, "three thousand four hundred and twelve", "dreitausendvierhundertzwölf"),
    (21_000, "twenty-one thousand", "einundzwanzigtausend"),
    (100_000, "one hundred thousand", "einhunderttausend"),
    (101_021, "one hundred and one thousand and twenty-one", "einhunderteintausendeinundzwanzig"),
    (
        999_999,
        "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
        "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
    ),
]


def test_number_words() -> None:
    found = [(number, english_number(number), german_number(number)) for number, *_ in NUMBER_WORDS]
    assert found == NUMBER_WORDS


def test_number_words_are_all_different() -> None:
    numbers = [*range(2_000), *range(2_000, 1_000_000, 997)]
    assert len({english_number(number) for number in numbers}) == len(numbers)
    assert len({german_number(number) for number in numbers}) == len(numbers)


def test_number_out_of_range() -> None:
    with pytest.raises(ValueError, match="999,999"):
        german_number(1_000_000)


HOURS = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]
ENGLISH_HOURS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
TIMES = """
0 {this} o'clock | {ein} Uhr
5 five past {this} | fünf nach {dies}
10 ten past {this} | zehn nach {dies}
15 a quarter past {this} | Viertel nach {dies}
20 twenty past {this} | zwanzig nach {dies}
25 twenty-five past {this} | fünf vor halb {coming}
30 half past {this} | halb {coming}
35 twenty-five to {next} | fünf nach halb {coming}
40 twenty to {next} | zwanzig vor {coming}
45 a quarter to {next} | Viertel vor {coming}
50 ten to {next} | zehn vor {coming}
55 five to {next} | fünf vor {coming}
"""


@pytest.mark.parametrize("row", TIMES.strip().split("\n"))
def test_time_of_day(row: str) -> None:
    minute, words = row.split(" ", 1)
    found = {}
    for hour in range(1, 13):
        tree = Branch("ROOT", (word("x", "x"), clock_time(hour, int(minute))))
        found[hour] = f"{english_text(tree)[2:]} | {german_text(tree)[2:]}"
    assert found == {hour: time_in_words(hour, words) for hour in range(1, 13)}


def time_in_words(hour: int, words: str) -> str:
    following = hour % 12
    said = ["eins", *HOURS[1:]]
    return words.format(
        this=ENGLISH_HOURS[hour - 1],
        next=ENGLISH_HOURS[following],
        ein=HOURS[hour - 1],
        dies=said[hour - 1],
        coming=said[following],
    )
