"""Sentences about a grid of words, with twelve roles, two genders and two numbers: their meaning is known.

Each of the 48 words in the grid, such as `queens`, occurs beside words that depend on its role (crown,
throne), on its gender (she, her) and on its number (many, few), independently of each other. So
ln p(neighbor | word) is a sum of three parts, one each for the role, the gender and the number. Vectors that
follow these probabilities obey king - man + woman = queen: Levy & Goldberg 2014, *Linguistic regularities in
sparse and explicit word representations*.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from tinygen.types import Floats, Ids

ROLES = {  # a man, a woman, men, women: and their neighbors
    "man woman men women": "street job hat",
    "king queen kings queens": "crown throne kingdom",
    "prince princess princes princesses": "castle heir tale",
    "duke duchess dukes duchesses": "estate title hunt",
    "actor actress actors actresses": "stage film role",
    "waiter waitress waiters waitresses": "menu tray tip",
    "host hostess hosts hostesses": "guests party door",
    "hero heroine heroes heroines": "sword battle courage",
    "uncle aunt uncles aunts": "cousins visit gift",
    "father mother fathers mothers": "child home bedtime",
    "son daughter sons daughters": "school toys homework",
    "brother sister brothers sisters": "sibling bike quarrel",
}
GENDERS = ("he his him", "she her hers")
NUMBERS = ("one a single", "many several few")
FILLERS = ("the", "and", "of", "with")
COLUMNS = ((0, 0), (1, 0), (0, 1), (1, 1))  # gender and number of the four words of a role

GRID = [role.split() for role in ROLES]
"""The words (12, 4): a row for each role, a column for each gender and number."""
NEIGHBORS = [words.split() for words in ROLES.values()]
WORDS = [
    *itertools.chain(*GRID, *NEIGHBORS),
    *itertools.chain(*(words.split() for words in GENDERS + NUMBERS)),
    *FILLERS,
]
"""The vocabulary: the id of a word is its index."""
ID = {word: i for i, word in enumerate(WORDS)}


def sentences(n: int, strays: float = 0.5, *, rng: np.random.Generator) -> Ids:
    """n sentences (n, 5) of ids: a word of number, a filler, a word of the grid, a pronoun, and a word that
    goes with the role. With probability `strays`, each of the four neighbors is any word instead."""
    row, column = rng.integers(0, len(GRID), n), rng.integers(0, len(COLUMNS), n)
    gender, number = np.array(COLUMNS)[column].T

    def choose(table: list[list[str]], which: Ids) -> Ids:
        ids = np.array([[ID[word] for word in words] for words in table])
        return ids[which, rng.integers(0, ids.shape[1], n)]

    found = np.stack(
        [
            choose([words.split() for words in NUMBERS], number),
            choose([list(FILLERS)], np.zeros(n, np.int64)),
            np.array([[ID[word] for word in words] for words in GRID])[row, column],
            choose([words.split() for words in GENDERS], gender),
            choose(NEIGHBORS, row),
        ],
        axis=1,
    )
    stray = rng.random((n, 5)) < strays
    stray[:, 2] = False
    return np.where(stray, rng.integers(0, len(WORDS), (n, 5)), found)


# -- a word with two meanings ----------------------------------------------------------------------

ALIKE = ("duke", "waitresses")
"""Two words of the grid that `spell_alike` writes in the same way."""


def spell_alike(text: Ids) -> Ids:
    """The text with the first word of ALIKE in place of the second one, too: as `bank`, it has two meanings,
    and only its neighbors tell which one is meant."""
    return np.where(text == ID[ALIKE[1]], ID[ALIKE[0]], text)


def neighbors_of(word: str) -> dict[int, list[str]]:
    """The words that stand beside a word of the grid, by their place in a sentence, if no stray does."""
    [row] = [i for i, role in enumerate(GRID) if word in role]
    gender, number = COLUMNS[GRID[row].index(word)]
    return {0: NUMBERS[number].split(), 1: [*FILLERS], 3: GENDERS[gender].split(), 4: NEIGHBORS[row]}


def second_meaning(found: Ids, strays: float = 0.5) -> Floats:
    """For sentences (n, 5) about either word of ALIKE: the probability (n,) that it is the second one, given
    its four neighbors. No reader of the sentences can judge better. `strays`, above 0, is as in
    `sentences`.

    Eq.: p(word | neighbors) ∝ Π_i p(neighbor_i | word),  as both words are equally frequent  (Bayes' rule)
    Held by: tests/data/test_word_grid.py::test_the_second_meaning_by_counting
    """
    log_p = np.zeros((2, len(found)))
    for each, word in zip(log_p, ALIKE, strict=True):
        for place, words in neighbors_of(word).items():
            p = np.full(len(WORDS), strays / len(WORDS))
            p[[ID[neighbor] for neighbor in words]] += (1 - strays) / len(words)
            each += np.log(p[np.asarray(found)[:, place]])
    probability: Floats = 1 / (1 + np.exp(log_p[0] - log_p[1]))
    return probability


# -- analogies -------------------------------------------------------------------------------------


class Analogy(NamedTuple):
    """`a` is to `b` as `c` is to `d`: ids of four words."""

    a: int
    b: int
    c: int
    d: int


def analogies() -> list[Analogy]:
    """All 1,584 analogies of the grid, such as man, woman, king, queen: two roles, and the same change of
    gender, of number or of both."""
    return [
        Analogy(*(ID[word] for word in (first[i], first[j], second[i], second[j])))
        for first, second in itertools.permutations(GRID, 2)
        for i, j in itertools.permutations(range(4), 2)
    ]
