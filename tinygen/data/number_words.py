"""Numbers from 0 to a million in English, German and French: a small translation task with exact answers.

One grammar per language writes a number in words, and a second one, which is independent of the first, reads
the words. So a translation is judged exactly: it is right if it reads as the number of the source. The
languages differ in the ways that make translation hard:

    84    eighty-four    vierundachtzig       quatre-vingt-quatre
    93    ninety-three   dreiundneunzig       quatre-vingt-treize

German says the ones before the tens, and writes a number below a million as one word; French counts by
twenties from 80 to 99, and goes on from 60 to 79. English is written as in the USA, without "and", and French
with the spelling from before 1990.
"""

from __future__ import annotations

from collections.abc import Callable

LARGEST = 1_000_000
words = str.split


def values(ones: list[str], tens: list[str]) -> dict[str, int]:
    """{word: number} of the words for 0, 1, 2, ... and for 20, 30, 40, ..."""
    return {word: n for n, word in enumerate(ones)} | {word: 10 * n for n, word in enumerate(tens, start=2)}


# -- English ---------------------------------------------------------------------------------------

ENGLISH = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
ENGLISH_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
ENGLISH_VALUES = values(ENGLISH, ENGLISH_TENS)


def english(n: int) -> str:
    """`n` in English: 21 -> "twenty-one", 1100 -> "one thousand one hundred"."""
    require_number(n)
    if n == LARGEST:
        return "one million"
    if n >= 1000:
        return append_rest(f"{english(n // 1000)} thousand", n % 1000, english, " ")
    if n >= 100:
        return append_rest(f"{ENGLISH[n // 100]} hundred", n % 100, english, " ")
    if n >= 20:
        return append_rest(ENGLISH_TENS[n // 10 - 2], n % 10, english, "-")
    return ENGLISH[n]


def read_english(text: str) -> int:
    """The number that `english` writes as `text`. ValueError for any other text."""

    def below_thousand(words: str) -> int:
        hundreds, found, rest = words.rpartition("hundred")
        tens = sum(ENGLISH_VALUES[word] for word in rest.replace("-", " ").split())
        return (100 * ENGLISH_VALUES[hundreds.strip()] if found else 0) + tens

    def number(text: str) -> int:
        if text == "one million":
            return LARGEST
        thousands, found, rest = text.rpartition("thousand")
        return (1000 * below_thousand(thousands) if found else 0) + below_thousand(rest)

    return checked_number(text, number, english, "English")


# -- German ----------------------------------------------------------------------------------------

GERMAN = words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn"
)
GERMAN_TENS = words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
GERMAN_VALUES = values(GERMAN, GERMAN_TENS) | {"eins": 1, "": 0}


def german(n: int) -> str:
    """`n` in German: 21 -> "einundzwanzig", 1100 -> "eintausendeinhundert". One is "eins" at the end of a
    number, and "ein" before another part."""
    require_number(n)
    if n == LARGEST:
        return "eine Million"
    return german_stem(n) + ("s" if n % 100 == 1 else "")


def german_stem(n: int) -> str:
    """`n` below a million, as it is written before "tausend": 1 is "ein"."""
    if n >= 1000:
        return append_rest(f"{german_stem(n // 1000)}tausend", n % 1000, german_stem, "")
    if n >= 100:
        return append_rest(f"{GERMAN[n // 100]}hundert", n % 100, german_stem, "")
    if n >= 20:
        ones = f"{GERMAN[n % 10]}und" if n % 10 else ""
        return ones + GERMAN_TENS[n // 10 - 2]
    return GERMAN[n]


def read_german(text: str) -> int:
    """The number that `german` writes as `text`. ValueError for any other text."""

    def below_thousand(word: str) -> int:
        hundreds, _, rest = word.rpartition("hundert")  # first: "hundert" contains "und"
        ones, _, tens = rest.rpartition("und")
        return 100 * GERMAN_VALUES[hundreds] + GERMAN_VALUES[ones] + GERMAN_VALUES[tens]

    def number(text: str) -> int:
        if text == "eine Million":
            return LARGEST
        thousands, _, rest = text.rpartition("tausend")
        return 1000 * below_thousand(thousands) + below_thousand(rest)

    return checked_number(text, number, german, "German")


# -- French ----------------------------------------------------------------------------------------

FRENCH = words(
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept "
    "dix-huit dix-neuf"
)
FRENCH_TENS = words("vingt trente quarante cinquante soixante")
FRENCH_VALUES = values(FRENCH[:17], FRENCH_TENS)


def french(n: int) -> str:
    """`n` in French: 21 -> "vingt et un", 71 -> "soixante et onze", 80 -> "quatre-vingts", 1100 -> "mille
    cent". "vingt" and "cent" have an s if they are multiplied and nothing follows: "deux cents", but "deux
    cent un" and "deux cent mille"."""
    require_number(n)
    if n == LARGEST:
        return "un million"
    stem = french_stem(n)
    return stem + ("s" if n % 100 == 80 or (n % 100 == 0 and n % 1000 > 100) else "")


def french_stem(n: int) -> str:
    """`n` below a million, as it is written before "mille": without an s at the end."""
    if n >= 1000:
        thousand = "mille" if n < 2000 else f"{french_stem(n // 1000)} mille"
        return append_rest(thousand, n % 1000, french_stem, " ")
    if n >= 100:
        hundred = "cent" if n < 200 else f"{FRENCH[n // 100]} cent"
        return append_rest(hundred, n % 100, french_stem, " ")
    if n >= 80:
        return append_rest("quatre-vingt", n - 80, french_stem, "-")  # 81 and 91 have no "et"
    if n >= 20:
        tens = min(n // 10, 6)  # 70 ... 79 go on from 60
        et = n in (21, 31, 41, 51, 61, 71)
        return append_rest(FRENCH_TENS[tens - 2], n - 10 * tens, french_stem, " et " if et else "-")
    return FRENCH[n]


def read_french(text: str) -> int:
    """The number that `french` writes as `text`. ValueError for any other text."""

    def below_hundred(words: list[str]) -> int:
        more = 4 * 20 - (4 + 20) if words[:2] == ["quatre", "vingt"] else 0
        return more + sum(FRENCH_VALUES[word] for word in words if word != "et")

    def below_thousand(words: list[str]) -> int:
        if "cent" not in words:
            return below_hundred(words)
        at = words.index("cent")
        return 100 * (below_hundred(words[:at]) or 1) + below_hundred(words[at + 1 :])

    def number(text: str) -> int:
        if text == "un million":
            return LARGEST
        words = text.replace("vingts", "vingt").replace("cents", "cent").replace("-", " ").split()
        if "mille" not in words:
            return below_thousand(words)
        at = words.index("mille")
        return 1000 * (below_thousand(words[:at]) or 1) + below_thousand(words[at + 1 :])

    return checked_number(text, number, french, "French")


# -- the part that all three share -----------------------------------------------------------------

WRITERS = {"english": english, "german": german, "french": french}
READERS = {"english": read_english, "german": read_german, "french": read_french}


def require_number(n: int) -> None:
    """Raises ValueError for a number that is too small or too large."""
    if not 0 <= n <= LARGEST:
        raise ValueError(f"the grammars write numbers from 0 to {LARGEST}, got {n}")


def append_rest(start: str, rest: int, write: Callable[[int], str], separator: str) -> str:
    """`start`, and the words of `rest` after the separator, unless it is 0."""
    return f"{start}{separator}{write(rest)}" if rest else start


def checked_number(
    text: str, number: Callable[[str], int], write: Callable[[int], str], language: str
) -> int:
    """`number(text)`, if the language writes it in exactly this way."""
    try:
        n = number(text)
    except KeyError:
        n = -1
    if not 0 <= n <= LARGEST or write(n) != text:
        raise ValueError(f"{text!r} is not how a number from 0 to {LARGEST} is written in {language}")
    return n
