"""Short reports from a grammar, in English and German, and five tasks in words with exact answers.

    anna cooked the soup . the soup was not really bad . ben liked it .
    anna hat die suppe gekocht . die suppe war nicht wirklich schlecht . ben mochte sie .

    translate :               the report in German: the verb moves to the end, articles and pronouns agree
    praise or blame :         praise          (the adjective, turned by "not")
    which topic :             food
    summarize :               good soup for anna .
    write : anna soup .       any report in which anna did something with the soup

A program knows the answer of each task; `read` parses a report, and so judges what is written freely. Texts
are words with spaces between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygen.types import Ids

words = str.split
NAMES = words(
    "anna ben clara david emma felix gina hugo ida jonas karla leo mia noah olga paul rosa simon tina udo "
    "vera willi xenia yann"
)


class Thing(NamedTuple):
    english: str
    german: str
    gender: str  # "m", "f" or "n", in German
    topic: str


THINGS = tuple(
    Thing(*line.split())
    for line in (
        *("soup suppe f food", "cake kuchen m food", "bread brot n food", "salad salat m food"),
        *("song lied n music", "opera oper f music", "waltz walzer m music", "concert konzert n music"),
        *("game spiel n sport", "race rennen n sport", "match partie f sport", "run lauf m sport"),
        *("city stadt f travel", "hotel hotel n travel", "beach strand m travel", "train zug m travel"),
    )
)
VERBS = {  # of each topic, in English and German
    "food": (("cooked", "gekocht"), ("tasted", "probiert"), ("bought", "gekauft")),
    "music": (("played", "gespielt"), ("heard", "gehört"), ("wrote", "geschrieben")),
    "sport": (("won", "gewonnen"), ("lost", "verloren"), ("watched", "gesehen")),
    "travel": (("visited", "besucht"), ("found", "gefunden"), ("left", "verlassen")),
}
TOPICS = tuple(VERBS)
ADJECTIVES = (  # in English and German; the first half praise
    *(("good", "gut"), ("lovely", "herrlich"), ("clever", "klug")),
    *(("bad", "schlecht"), ("awful", "furchtbar"), ("boring", "öde")),
)
DEGREES = (("", ""), ("really", "wirklich"), ("very", "sehr"))
NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
ACCUSATIVE = {"m": "den", "f": "die", "n": "das"}
PRONOUN = {"m": "ihn", "f": "sie", "n": "es"}


class Report(NamedTuple):
    """What a report says, as places in the tables above."""

    person: int
    thing: int
    verb: int  # of the three of its topic
    negated: bool
    degree: int
    adjective: int
    witness: int

    @property
    def topic(self) -> str:
        return THINGS[self.thing].topic

    @property
    def praises(self) -> bool:
        return (self.adjective < len(ADJECTIVES) // 2) != self.negated


def draw(n: int, names: Sequence[int], *, rng: np.random.Generator) -> list[Report]:
    """n reports about people of these names, all equally probable. In about half of them the witness is the
    person."""
    sizes = (len(names), len(THINGS), 3, 2, len(DEGREES), len(ADJECTIVES), len(names), 2)
    rows = np.stack([rng.integers(0, size, n) for size in sizes], axis=1).tolist()
    return [
        Report(names[a], b, c, bool(d), e, f, names[a if same else g]) for a, b, c, d, e, f, g, same in rows
    ]


# -- what is written -------------------------------------------------------------------------------


def join(*words: str) -> str:
    return " ".join(filter(None, words))


def english(report: Report) -> str:
    r, thing = report, THINGS[report.thing]
    verb, adjective, degree = VERBS[r.topic][r.verb][0], ADJECTIVES[r.adjective][0], DEGREES[r.degree][0]
    first = join(NAMES[r.person], verb, "the", thing.english, ".")
    second = join("the", thing.english, "was", "not" * r.negated, degree, adjective, ".")
    return join(first, second, NAMES[r.witness], "liked" if r.praises else "hated", "it .")


def german(report: Report) -> str:
    r, thing = report, THINGS[report.thing]
    verb, adjective, degree = VERBS[r.topic][r.verb][1], ADJECTIVES[r.adjective][1], DEGREES[r.degree][1]
    first = join(NAMES[r.person], "hat", ACCUSATIVE[thing.gender], thing.german, verb, ".")
    second = join(NOMINATIVE[thing.gender], thing.german, "war", "nicht" * r.negated, degree, adjective, ".")
    opinion = "mochte" if r.praises else "hasste"
    return join(first, second, NAMES[r.witness], opinion, PRONOUN[thing.gender], ".")


def about(report: Report) -> str:
    """A last sentence, which some texts have: "this was about food ."."""
    return f"this was about {report.topic} ."


def summary(report: Report) -> str:
    return (
        f"{'good' if report.praises else 'bad'} {THINGS[report.thing].english} for {NAMES[report.person]} ."
    )


def read(text: str) -> Report:
    """The report that `english` writes as `text`. ValueError for any other text."""
    try:
        first, second, third, rest = (part.split() for part in text.split("."))
        topic = next(topic for topic in TOPICS if first[1] in [verb for verb, _ in VERBS[topic]])
        report = Report(
            NAMES.index(first[0]),
            [thing.english for thing in THINGS].index(first[3]),
            [verb for verb, _ in VERBS[topic]].index(first[1]),
            "not" in second,
            next((i for i, (degree, _) in enumerate(DEGREES) if degree and degree in second), 0),
            [adjective for adjective, _ in ADJECTIVES].index(second[-1]),
            NAMES.index(third[0]),
        )
        if not rest and english(report) == text:
            return report
    except (ValueError, IndexError, StopIteration):
        pass
    raise ValueError(f"{text!r} is no report of this grammar")


# -- the tasks -------------------------------------------------------------------------------------

TASKS = ("which topic", "praise or blame", "translate", "summarize", "write")
ANSWERS = {
    "translate": german,
    "praise or blame": lambda report: "praise" if report.praises else "blame",
    "which topic": lambda report: report.topic,
    "summarize": summary,
    "write": english,
}


def question(task: str, report: Report) -> str:
    """What is asked: the task in words, and the report; for "write" only its person and thing."""
    if task == "write":
        return f"write : {NAMES[report.person]} {THINGS[report.thing].english} ."
    return f"{task} : {english(report)}"


def is_right(task: str, report: Report, answer: str) -> bool:
    """Whether the answer is right. What is written freely is right if it is a report of this person and
    thing."""
    if task != "write":
        return bool(answer == ANSWERS[task](report))
    try:
        found = read(answer)
    except ValueError:
        return False
    return (found.person, found.thing) == (report.person, report.thing)


# -- words as ids ----------------------------------------------------------------------------------

PAD, BEGIN, END, MASK = range(4)
SENTINELS = tuple(range(4, 12))
"""The first ids; words come after them."""


def all_words() -> list[str]:
    found = {
        *NAMES,
        *TOPICS,
        "liked hated mochte hasste hat war nicht was not it the this about for praise or",
    }
    found |= {"blame which topic translate summarize write : . der die das den ihn sie es"}
    found |= {word for thing in THINGS for word in thing[:2]}
    for pairs in (*VERBS.values(), ADJECTIVES, DEGREES):
        found |= {word for pair in pairs for word in pair}
    return sorted({word for text in found for word in text.split()})


WORDS = tuple(all_words())
NUMBER = {word: i for i, word in enumerate(WORDS, SENTINELS[-1] + 1)}
VOCAB_SIZE = SENTINELS[-1] + 1 + len(WORDS)
STOP = NUMBER["."]
LONGEST = 22
"""No question, report or answer has more words."""


def encode(text: str) -> Ids:
    """The ids of a text (T,), without BEGIN and END. ValueError for an unknown word."""
    if unknown := [word for word in text.split() if word not in NUMBER]:
        raise ValueError(f"{unknown[0]!r} is no word of the reports: see tinygen.data.reports.WORDS")
    return np.array([NUMBER[word] for word in text.split()], np.int64)


def decode(ids: Ids) -> str:
    """The words of ids (T,), up to the first END; other special ids are written as "?"."""
    row = np.asarray(ids).tolist()
    row = row[: row.index(END)] if END in row else row
    first = SENTINELS[-1] + 1
    return " ".join(WORDS[i - first] if i >= first else "?" for i in row if i not in (PAD, BEGIN))
