"""Dates in words in English, German and French: a translation task with exact answers, beside the numbers.

    1987-03-04    March fourth, nineteen eighty-seven
                  der vierte März neunzehnhundertsiebenundachtzig
                  le quatre mars mille neuf cent quatre-vingt-sept

The order of the parts differs, and so do the years. English says two pairs of digits, but "two thousand six";
German counts hundreds up to 1999, and thousands from 2000 on; French says the number. Only the first day of a
month is "first" in French. As with `number_words.py`, a second grammar reads each date back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from tinygen.data.number_words import (
    GERMAN_VALUES,
    english,
    french,
    german,
    read_english,
    read_french,
    read_german,
    words,
)

FIRST, LAST = date(1100, 1, 1), date(2099, 12, 31)


def require_date(day: date) -> None:
    """Raises ValueError for a date that is too early or too late."""
    if not FIRST <= day <= LAST:
        raise ValueError(f"the grammars write dates from {FIRST} to {LAST}, got {day}")


def checked_date(text: str, read: Callable[[], date], write: Callable[[date], str], language: str) -> date:
    """`read()`, if the language writes this date as `text`."""
    try:
        day = read()
        if write(day) == text:
            return day
    except (KeyError, ValueError):
        pass
    raise ValueError(f"{text!r} is not how a date from {FIRST} to {LAST} is written in {language}")


def numbers(names: list[str]) -> dict[str, int]:
    """{name: number} of names for 1, 2, 3, ..."""
    return {name: n for n, name in enumerate(names, 1)}


# -- English ---------------------------------------------------------------------------------------

ENGLISH_MONTHS = words(
    "January February March April May June July August September October November December"
)
ENGLISH_DAYS = words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
ENGLISH_DAYS += [f"twenty-{day}" for day in ENGLISH_DAYS[:9]] + ["thirtieth", "thirty-first"]


def english_date(day: date) -> str:
    """1987-03-04 -> "March fourth, nineteen eighty-seven"."""
    require_date(day)
    return f"{ENGLISH_MONTHS[day.month - 1]} {ENGLISH_DAYS[day.day - 1]}, {english_year(day.year)}"


def english_year(year: int) -> str:
    """1905 -> "nineteen oh five", 1900 -> "nineteen hundred", 2006 -> "two thousand six"."""
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return english(year)
    if rest == 0:
        return f"{english(century)} hundred"
    return f"{english(century)} {'oh ' if rest < 10 else ''}{english(rest)}"


def read_english_date(text: str) -> date:
    """The date that `english_date` writes as `text`. ValueError for any other text."""

    def read() -> date:
        before, _, year = text.partition(", ")
        month, _, day = before.partition(" ")
        return date(read_year(year), numbers(ENGLISH_MONTHS)[month], numbers(ENGLISH_DAYS)[day])

    def read_year(text: str) -> int:
        if text.startswith("two thousand"):
            return read_english(text)
        century, _, rest = text.partition(" ")
        rest = rest.removeprefix("oh ")
        return 100 * read_english(century) + (0 if rest == "hundred" else read_english(rest))

    return checked_date(text, read, english_date, "English")


# -- German ----------------------------------------------------------------------------------------

GERMAN_MONTHS = words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
GERMAN_DAYS = words("erste zweite dritte vierte fünfte sechste siebte achte neunte zehnte elfte zwölfte")
GERMAN_DAYS += [german(n) + ("te" if n < 20 else "ste") for n in range(13, 32)]


def german_date(day: date) -> str:
    """1987-03-04 -> "der vierte März neunzehnhundertsiebenundachtzig"."""
    require_date(day)
    return f"der {GERMAN_DAYS[day.day - 1]} {GERMAN_MONTHS[day.month - 1]} {german_year(day.year)}"


def german_year(year: int) -> str:
    """1900 -> "neunzehnhundert", 2006 -> "zweitausendsechs"."""
    century, rest = divmod(year, 100)
    if century == 20:
        return german(year)
    return f"{german(century)}hundert{german(rest) if rest else ''}"


def read_german_date(text: str) -> date:
    """The date that `german_date` writes as `text`. ValueError for any other text."""

    def read() -> date:
        _, day, month, year = text.split(" ")
        return date(read_year(year), numbers(GERMAN_MONTHS)[month], numbers(GERMAN_DAYS)[day])

    def read_year(word: str) -> int:
        if word.startswith("zweitausend"):
            return read_german(word)
        century, _, rest = word.partition("hundert")
        return 100 * GERMAN_VALUES[century] + (read_german(rest) if rest else 0)

    return checked_date(text, read, german_date, "German")


# -- French ----------------------------------------------------------------------------------------

FRENCH_MONTHS = words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre")


def french_date(day: date) -> str:
    """1987-03-04 -> "le quatre mars mille neuf cent quatre-vingt-sept"; the first day is "le premier"."""
    require_date(day)
    number = "premier" if day.day == 1 else french(day.day)
    return f"le {number} {FRENCH_MONTHS[day.month - 1]} {french(day.year)}"


def read_french_date(text: str) -> date:
    """The date that `french_date` writes as `text`. ValueError for any other text."""

    def read() -> date:
        (month,) = set(text.split(" ")) & set(FRENCH_MONTHS)
        before, _, year = text.removeprefix("le ").partition(f" {month} ")
        day = 1 if before == "premier" else read_french(before)
        return date(read_french(year), numbers(FRENCH_MONTHS)[month], day)

    return checked_date(text, read, french_date, "French")


WRITERS = {"english": english_date, "german": german_date, "french": french_date}
READERS = {"english": read_english_date, "german": read_german_date, "french": read_french_date}
