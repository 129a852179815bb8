"""Short film reviews from a grammar with known entropy, and a function that computes their sentiment.

    the film was really moving and not boring . i loved it . <end>

The grammar is a hidden Markov model: each state emits a word and moves to the next state. The writer's mood
(praise or blame) is hidden. It only changes the probabilities of words, so that no prefix of a review reveals
it with certainty. The forward algorithm (Rabiner 1989, *A tutorial on hidden Markov models*) sums over the
hidden states and gives the exact probability of every word: no model of these texts can have a lower loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygen.types import Floats, Ids

END = "<end>"
NOUNS = ("film", "plot", "cast", "music", "story", "ending")
VERBS = ("was", "felt", "seemed")
GOOD = ("good", "moving", "funny", "clever", "wonderful")
BAD = ("bad", "dull", "boring", "clumsy", "awful")
NEUTRAL = ("long", "short", "loud", "quiet")
DEGREES = ("really", "very")
OPINIONS = ("loved", "hated", "watched")
OTHERS = ("the", "not", "and", "but", "i", "it", ".", END)
WORDS = (*NOUNS, *VERBS, *DEGREES, *GOOD, *BAD, *NEUTRAL, *OPINIONS, *OTHERS)
NUMBER = {word: i for i, word in enumerate(WORDS)}
PROMPT = 3  # "the film was": the prompt that a model continues


class Way(NamedTuple):
    """A transition out of a state: with this probability, emit the word and move to the state `to`."""

    probability: float
    word: str
    to: str


def equal_ways(words: tuple[str, ...], probability: float, to: str) -> list[Way]:
    """Transitions to one state, with equally probable words."""
    return [Way(probability / len(words), word, to) for word in words]


def adjectives(praise: bool, probability: float, to: str) -> list[Way]:
    """Transitions with adjectives: mostly of the right sentiment, some neutral, a few of the opposite one."""
    fit, others = (GOOD, BAD) if praise else (BAD, GOOD)
    ways = equal_ways(fit, 0.75, to) + equal_ways(NEUTRAL, 0.15, to) + equal_ways(others, 0.1, to)
    return [Way(probability * way.probability, way.word, way.to) for way in ways]


def grammar() -> dict[str, list[Way]]:
    """The transitions out of every state; a state's name ends with the writer's mood, + or -."""
    states = {"start": [Way(0.5, "the", "noun+"), Way(0.5, "the", "noun-")]}
    for mood, other in ("+-", "-+"):
        praise = mood == "+"
        states |= {
            "noun" + mood: equal_ways(NOUNS, 1.0, "verb" + mood),
            "verb" + mood: equal_ways(VERBS, 1.0, "degree" + mood),
            "degree" + mood: [
                *equal_ways(DEGREES, 0.3, "adjective" + mood),
                Way(0.1, "not", "contrary" + mood),
                *adjectives(praise, 0.6, "after" + mood),
            ],
            "adjective" + mood: adjectives(praise, 1.0, "after" + mood),
            "contrary" + mood: adjectives(not praise, 1.0, "after" + mood),
            "after" + mood: [
                Way(0.6, ".", "more" + mood),
                Way(0.3, "and", "degree" + mood),
                Way(0.1, "but", "degree" + other),
            ],
            "more" + mood: [Way(0.6, END, "over"), Way(0.4, "i", "opinion" + mood)],
            "opinion" + mood: [
                Way(0.75, "loved" if praise else "hated", "object"),
                Way(0.2, "watched", "object"),
                Way(0.05, "hated" if praise else "loved", "object"),
            ],
        }
    return states | {
        "object": [Way(1.0, "it", "stop")],
        "stop": [Way(1.0, ".", "closed")],
        "closed": [Way(1.0, END, "over")],
        "over": [Way(1.0, END, "over")],  # padding
    }


class Reviews:
    """The grammar: it samples reviews and computes their probabilities. A review is an array of indices into
    `WORDS`."""

    def __init__(self) -> None:
        ways = grammar()
        states = {name: i for i, name in enumerate(ways)}
        self.start = states["start"]
        self.nouns = np.array([states["noun+"], states["noun-"]])  # after the first word, by mood
        self.verbs = np.array([states["verb+"], states["verb-"]])  # after the second one
        self.chain: Floats = np.zeros((len(states), len(WORDS), len(states)))  # from, word, to
        shape = len(states), max(map(len, ways.values()))
        self.ways: Floats = np.zeros(shape)  # the probabilities of the ways out of each state, one by one
        self.word, self.to = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for name, out in ways.items():
            for i, (p, word, to) in enumerate(out):
                self.chain[states[name], NUMBER[word], states[to]] += p
                self.ways[states[name], i] = p
                self.word[states[name], i], self.to[states[name], i] = NUMBER[word], states[to]

    def write(self, n: int, length: int, rng: np.random.Generator, moods: Ids | None = None) -> Ids:
        """Sample n reviews, cut off at `length` words or padded with END: (n, length). `moods` (n,) are the
        writers' moods at the start, 0 for praise and 1 for blame; by default they are drawn."""
        cdf = np.cumsum(self.ways, axis=1)
        cdf /= cdf[:, -1:]
        state = np.full(n, self.start)
        tokens = np.empty((n, length), np.int64)
        for t in range(length):
            way = (cdf[state] <= rng.random((n, 1))).sum(axis=1)
            tokens[:, t], state = self.word[state, way], self.to[state, way]
            if t == 0 and moods is not None:
                state = self.nouns[moods]
        return tokens

    def log_probs(self, tokens: Any) -> Floats:
        """ln p of each word given the words before it: tokens (B, T) -> (B, T). It is -inf from the first
        word that no review can continue with, and 0 for the padding after END."""
        tokens = np.asarray(tokens)
        belief = np.zeros((len(tokens), len(self.chain)))  # p(state, the words so far)
        belief[:, self.start] = 1
        result = np.empty(tokens.shape)
        with np.errstate(divide="ignore"):
            for t in range(tokens.shape[1]):
                belief = np.einsum("bs,bsr->br", belief, self.chain[:, tokens[:, t]].transpose(1, 0, 2))
                p = belief.sum(axis=1, keepdims=True)
                result[:, t] = np.where(p > 0, np.log(p), -np.inf)[:, 0]
                belief = np.divide(belief, p, out=np.zeros_like(belief), where=p > 0)
        return result


def sentiment(tokens: Any) -> Ids:
    """The number of praising minus blaming words in each review up to END: tokens (B, T) -> (B,). Adjectives
    count (with the opposite sign after "not"), and "loved" and "hated". It is defined for any sequence of
    words."""
    tokens = np.asarray(tokens)
    value = np.zeros(len(WORDS), np.int64)
    value[[NUMBER[word] for word in (*GOOD, "loved")]] = 1
    value[[NUMBER[word] for word in (*BAD, "hated")]] = -1
    turned = np.zeros(tokens.shape, bool)
    turned[:, 1:] = tokens[:, :-1] == NUMBER["not"]
    ended = np.cumsum(tokens == NUMBER[END], axis=1) > 0
    total: Ids = np.where(ended, 0, value[tokens] * np.where(turned, -1, 1)).sum(axis=1)
    return total


def text(tokens: Any) -> str:
    """One review (T,) as a string, up to END; a review without END ends with a mark that it was cut off."""
    words = [WORDS[token] for token in tokens]
    return " ".join(words[: words.index(END)] if END in words else [*words, "..."])
