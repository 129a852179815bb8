"""Small reviews of films, from a grammar whose entropy is known, and a program that says whether they praise.

    the film was really moving and not boring . i loved it . <end>

The grammar is a hidden Markov chain: a state says a word and goes on to the next state. What is hidden is
whether the writer praises or blames, which only shifts how probable words are; so no prefix of a review gives
it away for sure. The forward algorithm (Rabiner 1989, *A tutorial on hidden Markov models*) sums over what is
hidden, and gives the exact probability of every word: no model of these texts has a lower loss than that.
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
PROMPT = 3  # "the film was": what a writer is asked to go on from


class Way(NamedTuple):
    """Out of a state: with this probability, say the word and be in the state `to`."""

    probability: float
    word: str
    to: str


def same(words: tuple[str, ...], probability: float, to: str) -> list[Way]:
    """Equally probable words that lead to one state."""
    return [Way(probability / len(words), word, to) for word in words]


def adjectives(praise: bool, probability: float, to: str) -> list[Way]:
    """Mostly those that fit, some that say nothing, and a few of the others."""
    fit, others = (GOOD, BAD) if praise else (BAD, GOOD)
    ways = same(fit, 0.75, to) + same(NEUTRAL, 0.15, to) + same(others, 0.1, to)
    return [Way(probability * way.probability, way.word, way.to) for way in ways]


def grammar() -> dict[str, list[Way]]:
    """The ways out of every state; a state's name ends with the writer's mood, + or -."""
    states = {"start": [Way(0.5, "the", "noun+"), Way(0.5, "the", "noun-")]}
    for mood, other in ("+-", "-+"):
        praise = mood == "+"
        states |= {
            "noun" + mood: same(NOUNS, 1.0, "verb" + mood),
            "verb" + mood: same(VERBS, 1.0, "degree" + mood),
            "degree" + mood: [
                *same(DEGREES, 0.3, "adjective" + mood),
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
    """The grammar, ready to write, to score and to judge. Reviews are tokens, numbers into `WORDS`."""

    def __init__(self) -> None:
        ways = grammar()
        states = {name: i for i, name in enumerate(ways)}
        self.start = states["start"]
        self.chain: Floats = np.zeros((len(states), len(WORDS), len(states)))  # from, word, to
        shape = len(states), max(map(len, ways.values()))
        self.ways: Floats = np.zeros(shape)  # the probabilities of the ways out of each state, one by one
        self.word, self.to = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for name, out in ways.items():
            for i, (p, word, to) in enumerate(out):
                self.chain[states[name], NUMBER[word], states[to]] += p
                self.ways[states[name], i] = p
                self.word[states[name], i], self.to[states[name], i] = NUMBER[word], states[to]

    def write(self, n: int, length: int, rng: np.random.Generator) -> Ids:
        """n reviews, cut off at `length` words, or filled with END: (n, length)."""
        cdf = np.cumsum(self.ways, axis=1)
        cdf /= cdf[:, -1:]
        state = np.full(n, self.start)
        tokens = np.empty((n, length), np.int64)
        for t in range(length):
            way = (cdf[state] <= rng.random((n, 1))).sum(axis=1)
            tokens[:, t], state = self.word[state, way], self.to[state, way]
        return tokens

    def log_probs(self, tokens: Any) -> Floats:
        """ln p of each word given those before it: tokens (B, T) -> (B, T), -inf for what no review goes on
        with, and after it. 0 for the padding after END."""
        tokens = np.asarray(tokens)
        belief = np.zeros((len(tokens), len(self.chain)))  # of the state, with the probability of all so far
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
    """What praises less what blames, in each review (B, T) -> (B,), up to END: adjectives, which "not" turns
    round, and "loved" or "hated". Any words in any order have a sentiment."""
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
    """One review (T,) as words, up to END; without it, it was cut off, and that is shown."""
    words = [WORDS[token] for token in tokens]
    return " ".join(words[: words.index(END)] if END in words else [*words, "..."])
