"""Dates in words: known spellings, a second grammar that reads every date back, and what is refused."""

from datetime import date, timedelta

import pytest

from tinygen.data.dates import FIRST, LAST, READERS, WRITERS, numbers

KNOWN = {
    "english": {
        date(1100, 1, 1): "January first, eleven hundred",
        date(1905, 2, 28): "February twenty-eighth, nineteen oh five",
        date(1709, 2, 1): "February first, seventeen oh nine",
        date(1801, 2, 2): "February second, eighteen oh one",
        date(1910, 7, 12): "July twelfth, nineteen ten",
        date(1987, 3, 4): "March fourth, nineteen eighty-seven",
        date(2000, 8, 21): "August twenty-first, two thousand",
        date(2009, 5, 30): "May thirtieth, two thousand nine",
        date(2010, 10, 31): "October thirty-first, twenty ten",
        date(2099, 12, 20): "December twentieth, twenty ninety-nine",
    },
    "german": {
        date(1100, 1, 1): "der erste Januar elfhundert",
        date(1201, 6, 3): "der dritte Juni zwölfhunderteins",
        date(1987, 3, 4): "der vierte März neunzehnhundertsiebenundachtzig",
        date(1999, 9, 7): "der siebte September neunzehnhundertneunundneunzig",
        date(2000, 2, 8): "der achte Februar zweitausend",
        date(2026, 12, 20): "der zwanzigste Dezember zweitausendsechsundzwanzig",
        date(2001, 4, 19): "der neunzehnte April zweitausendeins",
        date(2031, 7, 31): "der einunddreißigste Juli zweitausendeinunddreißig",
    },
    "french": {
        date(1100, 1, 1): "le premier janvier mille cent",
        date(1987, 3, 4): "le quatre mars mille neuf cent quatre-vingt-sept",
        date(1871, 8, 21): "le vingt et un août mille huit cent soixante et onze",
        date(2000, 2, 11): "le onze février deux mille",
        date(1200, 12, 31): "le trente et un décembre mille deux cents",
    },
}
WRONG = {
    "english": ["", "March fourth", "March four, nineteen ten", "May first, twenty oh five", "May 1, ten"],
    "german": ["", "der erste März", "erste März zweitausend", "der einte Mai zweitausend"],
    "french": ["", "le premier mars", "le un mars deux mille", "le trente février deux mille"],
}
every_language = pytest.mark.parametrize("language", WRITERS)


@pytest.mark.parametrize(
    ("language", "day", "text"), [(k, day, text) for k, texts in KNOWN.items() for day, text in texts.items()]
)
def test_known_spellings(language, day, text):
    assert WRITERS[language](day) == text
    assert READERS[language](text) == day


@every_language
def test_every_year_and_every_day_of_a_year_reads_back(language):
    """Day and month are written apart from the year. So this holds for all dates."""
    write, read = WRITERS[language], READERS[language]
    assert all(read(write(date(year, 5, 1))) == date(year, 5, 1) for year in range(1100, 2100))
    days = [date(2024, 1, 1) + timedelta(n) for n in range(366)]
    assert all(read(write(day)) == day for day in days)


@every_language
@pytest.mark.parametrize("day", [FIRST - timedelta(1), LAST + timedelta(1)])
def test_other_dates_are_refused(language, day):
    with pytest.raises(ValueError, match=f"dates from 1100-01-01 to 2099-12-31, got {day}"):
        WRITERS[language](day)


@pytest.mark.parametrize(("language", "text"), [(k, t) for k, texts in WRONG.items() for t in texts])
def test_other_texts_are_refused(language, text):
    with pytest.raises(ValueError, match="is not how a date"):
        READERS[language](text)


def test_numbers_by_hand():
    assert numbers(["one", "two"]) == {"one": 1, "two": 2}
