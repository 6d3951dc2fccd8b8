"""Clauses. Each part of a clause has a role, and each language puts the roles in its own order."""

from typing import NamedTuple

from transformer.toyland.draft import Draft
from transformer.toyland.inflection import THIRD, Verb
from transformer.toyland.tree import Branch, Leaf, Node

# Tenses
PRESENT, PERFECT, MODAL = 0, 1, 2
# Shapes: statement that begins with its subject; statement that begins with a time, a place or a subordinate
# clause; question; subordinate clause
PLAIN, FRONTED, ASKED, FINAL = 0, 1, 2, 3

# Roles. OPENING and CLOSING are the commas of a relative clause. LINK opens a subordinate clause (`that`).
# SUPPORT is the auxiliary `do`. REST is the participle or infinitive. GOAL is whatever completes the verb
# (`old`, `into the house`). IT_OBJECT is a pronoun, which German places before the other objects.
OPENING, LINK, FRONT, SUBJECT, SUPPORT, FINITE, NOT, REST, PREFIX = 0, 1, 2, 3, 4, 5, 6, 7, 8
IT_OBJECT, RECEIVER, OBJECT, TO_RECEIVER, GOAL, TIME, CLOSING = 9, 10, 11, 12, 13, 14, 15

_AFTER_VERB = (IT_OBJECT, RECEIVER, OBJECT, TO_RECEIVER, GOAL, TIME, PREFIX, CLOSING)
_ENGLISH_ORDER = (OPENING, LINK, FRONT, SUBJECT, FINITE, NOT, REST, *_AFTER_VERB)
_ENGLISH_SUPPORTED = (OPENING, LINK, FRONT, SUBJECT, SUPPORT, NOT, FINITE, REST, *_AFTER_VERB)
_ENGLISH_ASKED = (FRONT, FINITE, SUBJECT, NOT, REST, *_AFTER_VERB)
_ENGLISH_ASKED_SUPPORTED = (FRONT, SUPPORT, SUBJECT, NOT, FINITE, REST, *_AFTER_VERB)

# In German the dative comes before the accusative, and `nicht` comes after the objects and before the
# complement of the verb.
_MIDDLE_FIELD = (SUPPORT, IT_OBJECT, TIME, RECEIVER, TO_RECEIVER, OBJECT, NOT, GOAL, REST, PREFIX)
_GERMAN_SUBJECT_FIRST = (SUBJECT, FINITE, *_MIDDLE_FIELD)
_GERMAN_VERB_SECOND = (FRONT, FINITE, SUBJECT, *_MIDDLE_FIELD)
_GERMAN_VERB_FINAL = (OPENING, LINK, SUBJECT, *_MIDDLE_FIELD, FINITE, CLOSING)
_GERMAN_ORDERS = (_GERMAN_SUBJECT_FIRST, _GERMAN_VERB_SECOND, _GERMAN_VERB_SECOND, _GERMAN_VERB_FINAL)


class Modal(NamedTuple):
    """The forms of a modal verb, by person. Only `want` has `supported` forms, which are used with `do`.

    `must` is never negated, because `muss nicht` means `need not` rather than `must not`.
    """

    finite: tuple[Leaf, ...]
    supported: tuple[Leaf, ...] | None = None


def _modal(english: str, german: str, link: str = "") -> tuple[Leaf, ...]:
    forms = zip(english.split(), german.split(), strict=True)
    return tuple(Leaf("MD", word, form, link) for word, form in forms)


_MUST = Modal(_modal("must must must", "muss muss müssen"))
_CAN = Modal(_modal("can can can", "kann kann können"))
_SHOULD = Modal(_modal("should should should", "sollte sollte sollten"))
_WISH = "modal"
_WANT = Modal(
    _modal("want wants want", "will will wollen"), _modal("want want want", "will will wollen", "modal")
)
_CANNOT = _modal("cannot cannot cannot", "kann kann können", "negation")

_DO = tuple(Leaf("AUX", word, "", "verb") for word in ("do", "does", "do"))
_DO_WANT = tuple(Leaf("AUX", word, "", _WISH) for word in ("do", "does", "do"))
_NOT = Leaf("RB", "not", "nicht")
_NOT_IN_KEIN = Leaf("RB", "not", "", "negation")
_NOT_IN_CANNOT = Leaf("RB", "", "nicht", "negation")

BE = (Leaf("VB", "am", "bin"), Leaf("VB", "is", "ist"), Leaf("VB", "are", "sind"))
COMMA = Leaf(",", ",", ",")
GERMAN_COMMA = Leaf(",", "", ",")
STOP = Leaf(".", ".", ".")
QUESTION_MARK = Leaf(".", "?", "?")
THAT = Leaf("IN", "that", "dass")
BECAUSE = Leaf("IN", "because", "weil")


def sentence(*parts: Branch | Leaf, mark: Leaf = STOP) -> Branch:
    """A sentence made of clauses and the punctuation between them."""
    return Branch("ROOT", (*parts, mark))


class Clause:
    """A clause under construction. Fill its `roles`, add a verb, then call `finish`."""

    __slots__ = ("draft", "kein", "negated", "person", "roles", "shape", "tense")

    def __init__(self, draft: Draft, shape: int, tense: int = PRESENT, negated: bool = False) -> None:
        self.draft = draft
        self.shape = shape
        self.tense = tense
        self.negated = negated
        self.kein = False
        self.person = THIRD
        self.roles: list[Node | None] = [None] * 16
        draft.begin(tense, negated)

    def finish(self) -> Branch:
        """Return the clause as a branch, with its parts in the order of each language."""
        roles = self.roles
        supported = roles[SUPPORT] is not None
        order: tuple[int, ...]
        if self.shape == ASKED:
            order = _ENGLISH_ASKED_SUPPORTED if supported else _ENGLISH_ASKED
        else:
            order = _ENGLISH_SUPPORTED if supported else _ENGLISH_ORDER
        english = tuple([part for role in order if (part := roles[role]) is not None])
        german = tuple([part for role in _GERMAN_ORDERS[self.shape] if (part := roles[role]) is not None])
        self.draft.finished(english, is_relative=roles[OPENING] is not None)
        return Branch("S", english, german)

    def add_verb(self, verb: Verb, wishes: bool = True) -> None:
        """Add the verb in the clause's tense; `wishes` is False if the subject cannot want anything."""
        if verb.prefix:
            self.draft.mark("separable")
        if self.tense == PRESENT:
            self._add_present(verb)
        elif self.tense == PERFECT:
            self.draft.mark("perfect")
            self.roles[FINITE] = verb.have[self.person]
            self.roles[REST] = verb.participle
            self.add_negation()
        else:
            self.draft.mark("modal")
            self._add_modal(verb, wishes)
        for role in (SUPPORT, FINITE, NOT, REST):
            if (leaf := self.roles[role]) is not None:
                self.draft.said((leaf,))

    def add_copula(self, predicate: Node) -> None:
        """Add `be` and its complement, as in `is old`."""
        self.roles[FINITE] = BE[self.person]
        self.roles[GOAL] = predicate
        self.add_negation()

    def add_negation(self) -> None:
        """If the clause is negated, add `not` and `nicht`; German has no `nicht` if an object has `kein`."""
        if self.negated:
            self.draft.mark("negation")
            self.roles[NOT] = _NOT_IN_KEIN if self.kein else _NOT

    def _add_present(self, verb: Verb) -> None:
        final = self.shape == FINAL
        if self.negated or self.shape == ASKED:
            self.roles[SUPPORT] = _DO[self.person]
            self.roles[FINITE] = (verb.final_supported if final else verb.finite_supported)[self.person]
        else:
            self.roles[FINITE] = (verb.final if final else verb.finite)[self.person]
        if not final:
            self.roles[PREFIX] = verb.prefix
        self.add_negation()

    def _add_modal(self, verb: Verb, wishes: bool) -> None:
        options = [_CAN]
        if not verb.sense:
            options.append(_SHOULD)
            if not self.negated:
                options.append(_MUST)
            if wishes:
                options.append(_WANT)
        modal = self.draft.pick(options)
        self.roles[FINITE] = modal.finite[self.person]
        self.roles[REST] = verb.to_infinitive if modal is _WANT else verb.infinitive
        self.add_negation()
        if modal.supported and (self.negated or self.shape == ASKED):
            self.roles[SUPPORT] = _DO_WANT[self.person]
            self.roles[FINITE] = modal.supported[self.person]
        elif modal is _CAN and self.negated and self.shape != ASKED:
            self.roles[FINITE] = _CANNOT[self.person]
            self.roles[NOT] = None if self.kein else _NOT_IN_CANNOT
