"""For `translate_numbers.py`: numbers and dates in three languages as tokens, a decoder alone, and where
attention looks.

Shapes: B batch, S tokens of the source, T of the target, C channels, H heads, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, no_grad, ops
from tinygen.data import dates, number_words
from tinygen.models.language.transformer import EncoderLayer, Transformer, TransformerConfig, sinusoids
from tinygen.nn import init
from tinygen.nn.attention import split_heads
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.text import BPE, corpus_bleu
from tinygen.types import Floats, Ids

LANGUAGES = ("english", "german", "french")
DIRECTIONS = [*permutations(LANGUAGES, 2)]
"""The six directions, (from, to)."""

PAD, BEGIN, END = "<pad>", "<begin>", "<end>"
SPECIAL = [PAD, BEGIN, END, *(f"<{language}>" for language in LANGUAGES)]


# -- texts -----------------------------------------------------------------------------------------


class Things(NamedTuple):
    """Numbers and dates in words: `words[language]` has a text for each."""

    words: dict[str, list[str]]

    @classmethod
    def write(cls, things: Sequence[Any], writers: Mapping[str, Callable[[Any], str]]) -> Things:
        return cls({name: [writers[name](thing) for thing in things] for name in LANGUAGES})

    def __add__(self, other: Things) -> Things:  # type: ignore[override]
        return Things({name: texts + other.words[name] for name, texts in self.words.items()})


def split_numbers(tests: int, train: int, largest: int, rng: np.random.Generator) -> tuple[Things, Things]:
    """Numbers from 0 to `largest`: some for the test, others to learn from. Among these are all below a
    thousand that are not in the test."""
    found = rng.permutation(largest + 1).tolist()
    small = sorted({*range(1000)} - {*found[: tests + train]})
    parts = found[:tests], found[tests : tests + train] + small
    first, second = (Things.write(part, number_words.WRITERS) for part in parts)
    return first, second


def split_dates(tests: int, train: int, rng: np.random.Generator) -> tuple[Things, Things]:
    """Dates: some for the test, others to learn from."""
    days = rng.permutation((dates.LAST - dates.FIRST).days + 1)[: tests + train].tolist()
    found = [dates.FIRST + timedelta(day) for day in days]
    first, second = (Things.write(part, dates.WRITERS) for part in (found[:tests], found[tests:]))
    return first, second


def learn_tokens(kinds: Sequence[Things], merges: int, few: int = 400) -> BPE:
    """Byte-pair encoding with so many merges, learned from the first `few` things of each kind."""
    lines = [text for things in kinds for texts in things.words.values() for text in texts[:few]]
    return BPE.train("\n".join(lines), 256 + merges + len(SPECIAL), SPECIAL)


def padded(rows: Sequence[Any], pad: int, left: bool = False) -> Ids:
    """Rows of tokens as one array (B, T), filled up with `pad` on the right, or on the left."""
    found = np.full((len(rows), max(map(len, rows))), pad)
    for i, row in enumerate(rows):
        found[i, found.shape[1] - len(row) if left else 0 :][: len(row)] = row
    return found


class Batch(NamedTuple):
    """B translations: source (B, S) and target (B, T) as tokens, and both as texts."""

    source: Ids
    target: Ids
    read: list[str]
    right: list[str]


class Translations:
    """Things in tokens. A source begins with the language that is asked for (Johnson et al. 2017,
    arXiv:1611.04558, section 3), so that one model translates in all directions."""

    def __init__(self, things: Things, tokenizer: BPE) -> None:
        self.words, self.ids = things.words, tokenizer.special
        self.tokens = {name: [tokenizer.encode(text) for text in texts] for name, texts in self.words.items()}

    def __len__(self) -> int:
        return len(self.words[LANGUAGES[0]])

    def batch(self, rows: Any, directions: Any) -> Batch:
        """Of these things (B,), in these directions (B,), numbers of DIRECTIONS."""
        sources, targets, read, right = [], [], [], []
        for row, (source, target) in zip(rows, [DIRECTIONS[d] for d in directions], strict=True):
            sources.append([self.ids[f"<{target}>"], *self.tokens[source][row], self.ids[END]])
            targets.append([self.ids[BEGIN], *self.tokens[target][row], self.ids[END]])
            read.append(self.words[source][row])
            right.append(self.words[target][row])
        return Batch(padded(sources, self.ids[PAD]), padded(targets, self.ids[PAD]), read, right)


def decode(tokenizer: BPE, ids: Any) -> list[str]:
    """The texts of ids (B, T), each up to its END."""
    end, special = tokenizer.special[END], set(tokenizer.special.values())
    rows = [row[: [*row, end].index(end)] for row in np.asarray(ids).tolist()]
    return [tokenizer.decode([i for i in row if i not in special]) for row in rows]


# -- a decoder alone -------------------------------------------------------------------------------


class DecoderAlone(nn.Module):
    """A language model that reads source and target as one text, from left to right, made of the parts of
    the Transformer. It has as many layers as encoder and decoder together, and perceptrons that are wider
    by C. So it has the parameters of a Transformer with this config, but for the biases and norms of
    cross-attention."""

    def __init__(self, config: TransformerConfig, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        c = self.config = replace(config, layers=2 * config.layers, hidden=config.hidden + config.channels)
        self.embedding = nn.Embedding(c.vocab_size, c.channels, rng=rng)
        self.layers = nn.ModuleList(EncoderLayer(c, rng=rng) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.channels, eps=c.norm_eps) if c.pre_norm else None
        for name, p in self.named_parameters():  # as in the Transformer
            if p is self.embedding.weight:
                p.data /= np.float32(math.sqrt(c.channels))
            elif p.ndim == 2:
                p.data = init.xavier_uniform(p.shape, rng=rng)
            elif name.endswith("bias"):
                p.data = init.zeros(p.shape)

    def forward(self, ids: Any) -> Tensor:
        """Logits (B, T, V) of the token after each of ids (B, T). Texts are padded on the left; positions are
        counted without padding, and no token looks at it."""
        tokens, c = ids != self.config.pad, self.config
        places = sinusoids(ids.shape[1], c.channels)[np.maximum(np.cumsum(tokens, axis=1) - 1, 0)]
        x = self.embedding(ids) * math.sqrt(c.channels)  # (B, T, C)
        x = x + np.asarray(places.astype(x.dtype), like=x.data)
        seen = tokens[:, None, None] & np.tri(ids.shape[1], dtype=bool)  # (B, 1, T, T)
        for layer in self.layers:
            x = layer(x, seen)
        return ops.linear(x if self.norm is None else self.norm(x), self.embedding.weight)

    def loss(self, source: Ids, target: Ids) -> Tensor:
        """As `Transformer.loss`: only the tokens of target (B, T) after the first count, not the source."""
        c = self.config
        sources, targets = ([row[row != c.pad] for row in rows] for rows in (source, target))
        ids = padded([np.concatenate(pair) for pair in zip(sources, targets, strict=True)], c.pad, left=True)
        labels = padded([row[1:] for row in targets], c.pad, left=True)  # (B, T - 1)
        logits = self(ids[:, :-1])[:, -labels.shape[1] :]
        return ops.cross_entropy(logits, labels, ignore_index=c.pad, label_smoothing=c.label_smoothing)

    @no_grad()
    def greedy_search(self, source: Ids, n: int) -> Ids:
        """At most n tokens after each source (B, S): (B, m), m <= n. A row may go on after its `end`."""
        c = self.config
        sources = [np.append(row[row != c.pad], c.begin) for row in source]
        ids = padded(sources, c.pad, left=True)
        start, ended = ids.shape[1], np.zeros(len(ids), bool)
        with self.eval_mode():
            while ids.shape[1] < start + n and not ended.all():
                token = self(ids).numpy()[:, -1].argmax(axis=-1)
                ids, ended = np.concatenate([ids, token[:, None]], axis=1), ended | (token == c.end)
        return ids[:, start:]


# -- where attention looks -------------------------------------------------------------------------


@no_grad()
def cross_attention(model: Transformer, source: Ids, target: Ids) -> Floats:
    """The weights with which each position of target (B, T) looks at the source (B, S), in each layer and
    head of the decoder: (layers, B, H, T, S)."""
    memory, y, found = model.memory(source), model.embed(target), []
    masks = model.mask(target), model.mask(source)
    for layer in model.decoder:
        cross = layer.cross
        x = layer.attn(y, masks[0])
        q = split_heads(cross.f.q(cross.norm(x) if cross.pre_norm else x), cross.f.heads)  # (B, H, T, d)
        k = split_heads(ops.split(cross.f.kv(memory), 2, axis=-1)[0], cross.f.heads)  # (B, H, S, d)
        scores = (q @ k.swapaxes(-1, -2)).numpy() / math.sqrt(q.shape[-1])
        scores = np.where(masks[1], scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        found.append(weights / weights.sum(axis=-1, keepdims=True))
        y = layer(y, memory, *masks)
    return np.stack(found)


# -- answers ---------------------------------------------------------------------------------------


Model = Transformer | DecoderAlone


def translate(model: Model, batch: Batch, tokenizer: BPE) -> list[str]:
    """Translations by greedy decoding, of all sources at once."""
    return decode(tokenizer, model.greedy_search(batch.source, batch.target.shape[1] + 5))


def search(model: Transformer, batch: Batch, tokenizer: BPE, width: int) -> list[str]:
    """Translations by beam search, one after the other."""
    found = model.beam_search(batch.source, batch.target.shape[1] + 5, width)
    return [decode(tokenizer, [best.tokens])[0] for best, *_ in found]


def share_right(written: list[str], right: list[str]) -> float:
    return float(np.mean([x == y for x, y in zip(written, right, strict=True)]))


def bleu(written: list[str], right: list[str], tokenizer: BPE) -> float:
    """BLEU of the tokens of translations: one German word is a whole number."""
    candidates, references = ([tokenizer.encode(x).tolist() for x in texts] for texts in (written, right))
    return corpus_bleu(candidates, [[x] for x in references]).score


def take_turns(models: Mapping[str, Model], batch: Any, rounds: int = 15) -> dict[str, float]:
    """The median seconds of loss and gradient; the models take turns."""
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            began = time.perf_counter()
            model.loss(batch.source, batch.target).backward()
            found[name].append(time.perf_counter() - began)
    return {name: float(np.median(each)) for name, each in found.items()}
