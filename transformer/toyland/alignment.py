"""Gold word alignments, read from the tree of a sentence."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product

from transformer.toyland.corpus import Example
from transformer.toyland.inflection import IT, NOUN
from transformer.toyland.tree import Branch, Leaf

# The path from the root to a leaf. For each branch on the way, the path has a pair: the `id` of the next
# child, and how many times that child occurs earlier in the branch. A leaf must have the same path in both
# languages, so the path cannot use the indices of children, which each language orders differently.
_Place = tuple[tuple[int, int], ...]
_MARKS = (",", ".")


def alignments(example: Example) -> list[tuple[int, int]]:
    """Pairs of English and German words, as word numbers counted from 0, in order.

    Words are separated by spaces; a punctuation mark belongs to the word before it and is not aligned itself.
    In a leaf of several words, and in linked leaves such as `macht … auf`, every English word is aligned with
    every German word. Words without a counterpart remain unaligned, such as `to` in `gives tea to the man`.
    """
    english, german = _words(example.tree, is_german=False), _words(example.tree, is_german=True)
    pairs: set[tuple[int, int]] = set()
    for places in _units(example.tree):
        sources, targets = (
            [word for place in places for word in words.get(place, ())] for words in (english, german)
        )
        pairs.update(product(sources, targets))
    return sorted(pairs)


def antecedents(example: Example) -> list[tuple[int, int]]:
    """Pairs of an English noun and the German pronoun that refers to it, as word numbers.

    The pronouns are the translations of `it`: er, sie, es and ihn. These pronouns never refer to a person. A
    pronoun is left out unless exactly one earlier noun has the same gender.
    """
    english, german = _words(example.tree, is_german=False), _words(example.tree, is_german=True)
    nouns: list[tuple[_Place, Leaf]] = []
    found = []
    for place, leaf in _leaves(example.tree):
        if leaf.label == "NN" and leaf.english in NOUN and "person" not in NOUN[leaf.english].kinds:
            nouns.append((place, leaf))
        if leaf.label == "PRP" and leaf.english == "it":
            meant = [where for where, noun in nouns if leaf.german in IT[NOUN[noun.english].gender]]
            if len(meant) == 1:
                found.append((english[meant[0]][0], german[place][0]))
    return found


def particles(example: Example) -> list[tuple[int, int]]:
    """Pairs of an English verb and the separated particle of its German verb, as word numbers.

    For example, if `closes` is translated by `macht … zu`, then `closes` and `zu` are a pair.
    """
    english, german = _words(example.tree, is_german=False), _words(example.tree, is_german=True)
    labels = dict(_leaves(example.tree)) | dict(_leaves(example.tree, is_german=True))
    found = []
    for places in _units(example.tree):
        verbs = [place for place in places if labels[place].label == "VB" and place in english]
        found += [
            (english[verb][0], german[place][0])
            for place in places
            if labels[place].label == "PREFIX" and place in german
            for verb in verbs[:1]
        ]
    return found


def _words(tree: Branch, is_german: bool) -> dict[_Place, range]:
    """For the path of each leaf, the numbers of the leaf's words in one language."""
    words: dict[_Place, range] = {}
    count = 0
    for place, leaf in _leaves(tree, is_german):
        text = leaf.german if is_german else leaf.english
        if leaf.label not in _MARKS:
            words[place] = range(count, count + len(text.split()))
            count = words[place].stop
    return words


def _leaves(branch: Branch, is_german: bool = False, place: _Place = ()) -> Iterator[tuple[_Place, Leaf]]:
    seen: Counter[int] = Counter()
    for child in branch.german if is_german else branch.english:
        # The same leaf object may occur twice in a branch; each occurrence has its own path.
        here = (*place, (id(child), seen[id(child)]))
        seen[id(child)] += 1
        if isinstance(child, Branch):
            yield from _leaves(child, is_german, here)
        else:
            yield here, child


def _units(tree: Branch) -> Iterator[list[_Place]]:
    """Units of translation: single leaves, and groups of leaves that have the same link in one clause."""
    linked: dict[tuple[_Place, str], list[_Place]] = defaultdict(list)
    clauses = _clauses(tree)
    for place, leaf in _leaves(tree):
        if leaf.link:
            clause = max(
                (clause for clause in clauses if place[: len(clause)] == clause), key=len, default=()
            )
            linked[clause, leaf.link].append(place)
        else:
            yield [place]
    yield from linked.values()


def _clauses(branch: Branch, place: _Place = ()) -> list[_Place]:
    places = [place] if branch.label == "S" else []
    seen: Counter[int] = Counter()
    for child in branch.english:
        if isinstance(child, Branch):
            places += _clauses(child, (*place, (id(child), seen[id(child)])))
        seen[id(child)] += 1
    return places
