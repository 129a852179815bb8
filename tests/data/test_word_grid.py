"""Sentences about the grid of words: who stands beside whom, and exact analogies."""

import itertools

import numpy as np
import pytest

from tinygen.data import word_grid
from tinygen.data.word_grid import COLUMNS, GENDERS, GRID, ID, NEIGHBORS, NUMBERS, WORDS, analogies, sentences


def test_the_vocabulary():
    assert len(WORDS) == len(set(WORDS)) == 12 * 4 + 12 * 3 + 6 + 6 + 4
    assert np.shape(GRID) == (12, 4)
    assert GRID[1] == ["king", "queen", "kings", "queens"]
    assert COLUMNS == ((0, 0), (1, 0), (0, 1), (1, 1))


def test_sentences_without_strays_follow_the_grid():
    for number, filler, word, pronoun, neighbor in sentences(3000, 0.0, rng=np.random.default_rng(0)):
        [row] = [i for i, role in enumerate(GRID) if WORDS[word] in role]
        gender, plural = COLUMNS[GRID[row].index(WORDS[word])]
        assert WORDS[number] in NUMBERS[plural].split()
        assert WORDS[filler] in word_grid.FILLERS
        assert WORDS[pronoun] in GENDERS[gender].split()
        assert WORDS[neighbor] in NEIGHBORS[row]


def assert_uniform(ids, words):
    """Each word is as frequent as the others, within 6 standard deviations."""
    counts = np.array([np.sum(ids == ID[word]) for word in words])
    assert counts.sum() == len(ids)
    assert np.all(np.abs(counts - len(ids) / len(words)) < 6 * np.sqrt(len(ids) / len(words)))


def test_choices_are_uniform_and_strays_are_anywhere():
    found = sentences(40_000, 0.5, rng=np.random.default_rng(1))
    counts = np.bincount(found[:, 2], minlength=len(WORDS))[:48]
    assert counts.sum() == 40_000
    assert np.all(np.abs(counts - 40_000 / 48) < 6 * np.sqrt(40_000 / 48))
    found_without = sentences(40_000, 0.0, rng=np.random.default_rng(2))
    king, men = (
        found_without[found_without[:, 2] == ID["king"]],
        found_without[found_without[:, 2] == ID["men"]],
    )
    for ids, words in ((king[:, 0], NUMBERS[0].split()), (men[:, 0], NUMBERS[1].split())):
        assert_uniform(ids, words)
    assert_uniform(king[:, 1], word_grid.FILLERS)
    assert_uniform(king[:, 3], GENDERS[0].split())
    assert_uniform(king[:, 4], NEIGHBORS[1])
    usual = [ID[word] for word in word_grid.FILLERS]
    strays = np.bincount(found[~np.isin(found[:, 1], usual), 1], minlength=len(WORDS))
    others = np.delete(strays, usual)
    assert np.all(np.abs(others - 0.5 * 40_000 / len(WORDS)) < 6 * np.sqrt(0.5 * 40_000 / len(WORDS)))
    share = np.mean(~np.isin(found[:, 1], usual))  # a stray is a filler, too, in 4 of 100 draws
    assert abs(share - 0.5 * (1 - 4 / len(WORDS))) < 0.015


def test_analogies_change_one_meaning_of_two_roles():
    found = analogies()
    assert len(found) == len(set(found)) == 12 * 11 * 4 * 3
    as_words = {tuple(WORDS[i] for i in each) for each in found}
    assert ("man", "woman", "king", "queen") in as_words
    assert ("uncle", "aunts", "son", "daughters") in as_words
    place = {word: (i, j) for i, role in enumerate(GRID) for j, word in enumerate(role)}
    for a, b, c, d in as_words:
        assert place[a][0] == place[b][0] != place[c][0] == place[d][0]
        assert place[a][1] == place[c][1] != place[b][1] == place[d][1]


def test_the_exact_probabilities_obey_every_analogy():
    """ln p(neighbor | word) has an additive part for each meaning, so b - a + c is d's row exactly."""
    pairs = np.full((len(WORDS), len(WORDS)), 1e-3)  # strays
    for (row, role), column in itertools.product(enumerate(GRID), range(4)):
        gender, number = COLUMNS[column]
        for words in (NEIGHBORS[row], GENDERS[gender].split(), NUMBERS[number].split()):
            pairs[ID[role[column]], [ID[word] for word in words]] += 1 / 3
    log_p = np.log(pairs)
    a, b, c, d = np.array(analogies()).T
    np.testing.assert_allclose(log_p[b] - log_p[a] + log_p[c], log_p[d], rtol=1e-12)


def test_words_that_are_spelled_alike():
    text = np.array([ID["duke"], ID["king"], ID["waitresses"], ID["waitress"]])
    assert [WORDS[i] for i in word_grid.spell_alike(text)] == ["duke", "king", "duke", "waitress"]


def test_the_second_meaning_by_counting():
    """One stray of two, in a sentence by hand; and the shares among many drawn sentences."""
    sentence = [[ID[word] for word in ("one", "the", "duke", "she", "tray")]]
    usual, stray = 0.5 / 3 + 0.005, 0.005  # `one` goes with the duke; `she` and `tray` with the waitresses
    odds = (stray * usual * usual) / (usual * stray * stray)
    assert word_grid.second_meaning(sentence)[0] == pytest.approx(odds / (1 + odds), rel=1e-12)
    found = sentences(400_000, 0.7, rng=np.random.default_rng(0))
    found = found[np.isin(found[:, 2], [ID[word] for word in word_grid.ALIKE])]
    p, second = word_grid.second_meaning(found, 0.7), found[:, 2] == ID["waitresses"]
    assert np.array_equal(p, word_grid.second_meaning(word_grid.spell_alike(found), 0.7))
    for low, high in itertools.pairwise((0.0, 0.05, 0.3, 0.7, 0.95, 1.0)):
        among = (p >= low) & (p <= high)
        deviation = np.sqrt(np.sum(p[among] * (1 - p[among])))
        assert among.sum() > 500
        assert abs(second[among].sum() - p[among].sum()) < 4 * deviation
