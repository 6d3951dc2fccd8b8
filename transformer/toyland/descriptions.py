"""Sentences such as `The house is old.` and `My dog is called Velmora.`"""

from transformer.toyland.clauses import (
    ASKED,
    FINITE,
    GOAL,
    LINK,
    PLAIN,
    PRESENT,
    QUESTION_MARK,
    STOP,
    SUBJECT,
    Clause,
    sentence,
)
from transformer.toyland.draft import Draft
from transformer.toyland.inflection import NOUN, NOUNS, Noun, nouns_of
from transformer.toyland.phrases import name_leaf, subject
from transformer.toyland.tree import Branch, Leaf, Node

_FEELING_WORDS = ("tired", "hungry", "sick", "happy", "sad")
FEELINGS = tuple(adjective for adjective in NOUN["man"].adjectives if adjective.english in _FEELING_WORDS)
_IS_CALLED = Leaf("VB", "is called", "heißt")
_NAMED = nouns_of("person", "animal")
_DESCRIBED = tuple(noun for noun in NOUNS if noun.adjectives)


def describing(draft: Draft) -> Branch:
    """`The house is old.` or `Is the house old?`"""
    asked = draft.random() < 0.25
    clause = describe(draft, ASKED if asked else PLAIN)
    if asked:
        draft.mark("question")
    return sentence(clause.finish(), mark=QUESTION_MARK if asked else STOP)


def describe(draft: Draft, shape: int) -> Clause:
    """An unfinished clause with any subject and an adjective that suits it."""
    return _describe(draft, shape, _DESCRIBED)


def describe_noun(draft: Draft, noun: Noun) -> Clause:
    """A statement with this noun and an adjective that suits it."""
    return _describe(draft, PLAIN, (noun,), nouns_only=True)


def _describe(draft: Draft, shape: int, nouns: tuple[Noun, ...], nouns_only: bool = False) -> Clause:
    negated = shape != ASKED and draft.random() < 0.2
    phrase = subject(draft, nouns, negated, nouns_only, adjectives=0.0)
    clause = Clause(draft, shape, PRESENT, negated)
    clause.person = phrase.person
    clause.roles[SUBJECT] = phrase.node
    clause.add_copula(draft.pick(phrase.noun.adjectives if phrase.noun else FEELINGS).predicative)
    return clause


def naming(draft: Draft) -> Branch:
    """`My dog is called Velmora.`"""
    phrase = subject(draft, (draft.pick(_NAMED),), nouns_only=True, singular=True)
    return sentence(called(draft, phrase.node))


def called(draft: Draft, bearer: Node) -> Branch:
    """A clause such as `it is called Velmora`."""
    clause = Clause(draft, PLAIN)
    clause.roles[SUBJECT] = bearer
    clause.roles[FINITE] = _IS_CALLED
    clause.roles[GOAL] = name_leaf(draft)
    return clause.finish()


def about(
    draft: Draft, shape: int, pronoun: Leaf, predicate: Leaf, link: Leaf | None = None, negated: float = 0.15
) -> Branch:
    """A clause such as `it is old`."""
    clause = Clause(draft, shape, PRESENT, draft.random() < negated)
    clause.roles[LINK] = link
    clause.roles[SUBJECT] = pronoun
    clause.add_copula(predicate)
    return clause.finish()
