"""Number words: known spellings, and a second grammar that reads every number back."""

import numpy as np
import pytest

from tinygen.data import number_words
from tinygen.data.number_words import LARGEST, READERS, WRITERS

KNOWN = {
    "english": {
        0: "zero",
        13: "thirteen",
        40: "forty",
        99: "ninety-nine",
        100: "one hundred",
        305: "three hundred five",
        1000: "one thousand",
        12_345: "twelve thousand three hundred forty-five",
        100_001: "one hundred thousand one",
        LARGEST: "one million",
    },
    "german": {
        0: "null",
        1: "eins",
        11: "elf",
        16: "sechzehn",
        17: "siebzehn",
        21: "einundzwanzig",
        30: "dreißig",
        66: "sechsundsechzig",
        77: "siebenundsiebzig",
        101: "einhunderteins",
        1001: "eintausendeins",
        1021: "eintausendeinundzwanzig",
        21_000: "einundzwanzigtausend",
        101_000: "einhunderteintausend",
        12_345: "zwölftausenddreihundertfünfundvierzig",
        LARGEST: "eine Million",
    },
    "french": {
        0: "zéro",
        16: "seize",
        17: "dix-sept",
        21: "vingt et un",
        22: "vingt-deux",
        61: "soixante et un",
        70: "soixante-dix",
        71: "soixante et onze",
        72: "soixante-douze",
        79: "soixante-dix-neuf",
        80: "quatre-vingts",
        81: "quatre-vingt-un",
        90: "quatre-vingt-dix",
        91: "quatre-vingt-onze",
        99: "quatre-vingt-dix-neuf",
        100: "cent",
        101: "cent un",
        180: "cent quatre-vingts",
        200: "deux cents",
        201: "deux cent un",
        1000: "mille",
        1080: "mille quatre-vingts",
        1100: "mille cent",
        2000: "deux mille",
        2200: "deux mille deux cents",
        80_000: "quatre-vingt mille",
        200_000: "deux cent mille",
        280_280: "deux cent quatre-vingt mille deux cent quatre-vingts",
        71_021: "soixante et onze mille vingt et un",
        LARGEST: "un million",
    },
}
WRONG = {
    "english": ["", "twenty one", "one hundred and one", "ten hundred", "million", "one  hundred"],
    "german": ["", "ein", "zwanzigeins", "einsundzwanzig", "hundert", "tausend", "eine million"],
    "french": ["", "vingt-un", "septante", "quatre-vingt", "deux cent", "deux cents un", "un mille", "cents"],
}
every_language = pytest.mark.parametrize("language", WRITERS)


@pytest.mark.parametrize(
    ("language", "n", "text"), [(k, n, text) for k, texts in KNOWN.items() for n, text in texts.items()]
)
def test_known_spellings(language, n, text):
    assert WRITERS[language](n) == text
    assert READERS[language](text) == n


def test_values_by_hand():
    found = number_words.values(["zero", "one", "two"], ["twenty", "thirty"])
    assert found == {"zero": 0, "one": 1, "two": 2, "twenty": 20, "thirty": 30}


def reads_back(language, numbers):
    write, read = WRITERS[language], READERS[language]
    return all(read(write(n)) == n for n in numbers)


@every_language
def test_every_number_below_a_thousand_and_every_thousand_reads_back(language):
    assert reads_back(language, range(1100))
    assert reads_back(language, range(1000, LARGEST + 1, 1000))
    assert reads_back(language, np.random.default_rng(0).integers(0, LARGEST, 500).tolist())


@every_language
def test_the_words_of_thousands_are_those_of_the_two_halves(language):
    """What is true of numbers below a thousand is true of all: the two halves are written one after the
    other, and only the letters of agreement at the end of the first half differ."""
    write, word = WRITERS[language], {"english": "thousand", "german": "tausend", "french": "mille"}[language]
    for n in np.random.default_rng(1).integers(2000, LARGEST, 200).tolist():
        thousands, rest = write(n).split(word)
        stem = write(n // 1000)
        assert thousands.strip() in (stem, stem.removesuffix("s"))
        assert rest.strip() == (write(n % 1000) if n % 1000 else "")


@pytest.mark.slow
@every_language
def test_every_number_reads_back(language):
    assert reads_back(language, range(LARGEST + 1))


@pytest.mark.parametrize(("language", "text"), [(k, t) for k, texts in WRONG.items() for t in texts])
def test_other_texts_are_refused(language, text):
    with pytest.raises(ValueError, match="is not how a number"):
        READERS[language](text)


@every_language
@pytest.mark.parametrize("n", [-1, LARGEST + 1])
def test_other_numbers_are_refused(language, n):
    with pytest.raises(ValueError, match=rf"from 0 to 1000000, got {n}"):
        WRITERS[language](n)
