"""The training algorithm of byte-pair encoding, which decides which pairs of neighbors become one token.

Gage 1994 (for compression); Sennrich, Haddow & Birch 2016, section 3.2 (for words). An example, from the
article *Byte pair encoding* in Wikipedia: "aaabdaaabac" becomes "XdXac", where X = ZY, Z = aa and Y = ab.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from itertools import pairwise

Pair = tuple[int, int]


def merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    """`ids` with every `pair` in it replaced by `new_id`, from the left, without overlap."""
    merged = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def learn_merges(words: Counter[bytes], n_merges: int) -> dict[Pair, int]:
    """The first `n_merges` merges that BPE learns from words and their counts, in order.

    Each step finds the pair of neighbours that is most frequent at this time, and merges it in every
    word; the new token gets the next id, from 256 on. Of equally frequent pairs, the one with the
    smaller first id wins, then the one with the smaller second id, so the order of the text has no
    effect. In "aaa" the pair (a, a) counts twice, as in Sennrich et al. There are fewer merges if every
    word has become a single token.
    """
    spelled = [list(word) for word in words]
    times = list(words.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> words it is, or was, in
    for i, ids in enumerate(spelled):
        for pair in pairwise(ids):
            counts[pair] += times[i]
            where[pair].add(i)

    # A heap of all counts, including outdated ones, which are detected and skipped when popped.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: dict[Pair, int] = {}
    while heap and len(merges) < n_merges:
        count, best = heapq.heappop(heap)
        if -count != counts[best]:
            continue
        merges[best] = 256 + len(merges)
        changed = set()
        for i in where.pop(best):
            before, after = spelled[i], merge(spelled[i], best, merges[best])
            if len(after) == len(before):
                continue  # an earlier merge had taken the pair from this word
            for pair in pairwise(before):
                counts[pair] -= times[i]
                changed.add(pair)
            for pair in pairwise(after):
                counts[pair] += times[i]
                where[pair].add(i)
                changed.add(pair)
            spelled[i] = after
        for pair in changed:
            if counts[pair] > 0:
                heapq.heappush(heap, (-counts[pair], pair))
    return merges
