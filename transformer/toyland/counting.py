"""Sentences with numbers: prices, stocks, possessions, inhabitants and the time of day."""

from transformer.toyland.clauses import BE, FINITE, GOAL, OBJECT, PLAIN, SUBJECT, Clause, sentence
from transformer.toyland.clock import CLOCK_TIMES
from transformer.toyland.draft import Draft
from transformer.toyland.events import EVENTS, Event, add_circumstances, put_first, start
from transformer.toyland.inflection import ACCUSATIVE, MANY, NOUN, THIRD, nouns_of
from transformer.toyland.phrases import (
    counted,
    large_number,
    name_leaf,
    number_leaf,
    place,
    small_number,
    subject,
)
from transformer.toyland.tree import Branch, Leaf

_ES = Leaf("PRP", "it", "es")
_IN = Leaf("IN", "in", "in")
_COSTS = Leaf("VB", "costs", "kostet")
_EUROS = Leaf("NNS", "euros", "Euro")
_THERE = Leaf("EX", "there", "es")
_THERE_ARE = Leaf("VB", "are", "gibt")
_PERSONS = Leaf("NNS", "people", "Menschen")
_LIVE = Leaf("VB", "live", "wohnen")


def telling_time(draft: Draft) -> Branch:
    """`It is half past nine.`"""
    draft.mark("clock")
    clause = Clause(draft, PLAIN)
    clause.roles[SUBJECT] = _ES
    clause.roles[FINITE] = BE[THIRD]
    clause.roles[GOAL] = draft.pick(CLOCK_TIMES)
    return sentence(clause.finish())


def counting(draft: Draft) -> Branch:
    """A sentence about a price, a stock, a possession or a town's inhabitants, with a number of any size."""
    count = draft.pick((_price, _stock, _possession, _inhabitants))
    return sentence(count(draft).finish())


_FORTUNES = tuple(
    NOUN[english] for english in ("house", "castle", "hotel", "school", "car", "boat", "bus", "train", "ship")
)
_GOODS = nouns_of("ware")
_COUNTED = nouns_of("readable", "thing", "animal", "food")
_STORES = tuple(NOUN[english] for english in ("village", "castle", "park", "school", "library", "hotel"))
_TRADE = tuple(event for event in EVENTS if event.verb.english in ("buy", "sell", "need", "have"))


def _price(draft: Draft) -> Clause:
    """`The car costs … euros.`"""
    is_expensive = draft.random() < 0.6
    noun = draft.pick(_FORTUNES if is_expensive else _GOODS)
    number = large_number(draft) if is_expensive else small_number(draft)
    if is_expensive and number < 1000:
        number *= 1000
    clause = Clause(draft, PLAIN)
    clause.roles[SUBJECT] = subject(draft, (noun,), singular=True).node
    clause.roles[FINITE] = _COSTS
    clause.roles[OBJECT] = Branch("NP", (number_leaf(draft, number), _EUROS))
    return clause


def _stock(draft: Draft) -> Clause:
    """`In the library there are … books.`"""
    clause = Clause(draft, PLAIN)
    clause.roles[SUBJECT] = _THERE
    clause.roles[FINITE] = _THERE_ARE
    clause.roles[OBJECT] = counted(draft, large_number(draft), draft.pick(_COUNTED), ACCUSATIVE, 0.25)
    where = place(draft, noun=draft.pick(_STORES)) if draft.random() < 0.6 else _in_town(draft)
    if draft.random() < 0.5:
        put_first(draft, clause, where)
    else:
        clause.roles[GOAL] = where
    return clause


def _possession(draft: Draft) -> Clause:
    event = draft.pick(_TRADE)
    phrase = subject(draft, event.subjects)
    countable = tuple(noun for noun in event.objects if noun.has_plural)
    large = event._replace(complement=_large_object, objects=countable)
    clause = start(draft, large, phrase, PLAIN)
    add_circumstances(draft, clause, event, 0.15)
    return clause


def _large_object(draft: Draft, clause: Clause, event: Event) -> None:
    clause.roles[OBJECT] = counted(draft, large_number(draft), draft.pick(event.objects), ACCUSATIVE, 0.25)


def _inhabitants(draft: Draft) -> Clause:
    """`… people live in Velmora.`"""
    clause = Clause(draft, PLAIN)
    clause.person = MANY
    people = Branch("NP", (number_leaf(draft, large_number(draft)), _PERSONS))
    clause.roles[SUBJECT] = people
    clause.roles[FINITE] = _LIVE
    clause.roles[GOAL] = _in_town(draft)
    return clause


def _in_town(draft: Draft) -> Branch:
    return Branch("PP", (_IN, name_leaf(draft)))
