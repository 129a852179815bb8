"""Histograms. The places have no derivative, and the counts none; weights have one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.ops.compose import arrays_in, call_on_arrays, composition, numbers_like, to_cpu
from tinygen.tensor import Tensor
from tinygen.types import TensorLike


def histogram_of(
    dimensions: Any, sample: Any, bins: Any, range: Any, density: Any, weights: Any
) -> tuple[TensorLike, Any]:
    """(counts, edges): NumPy finds the edges and the bins; the weights of each are added up here."""
    columns = [to_cpu(x) for x in dimensions(sample)]
    edges = np.histogramdd(columns, bins, range)[1]
    shape = tuple(len(e) - 1 for e in edges)
    places, inside = [], np.ones(len(columns[0]), dtype=bool)
    for x, e in zip(columns, edges, strict=True):
        i = np.searchsorted(e, x, side="right") - 1
        i = np.where(x == e[-1], len(e) - 2, i)
        inside &= (i >= 0) & (i < len(e) - 1)
        places.append(i)
    flat = np.ravel_multi_index([i[inside] for i in places], shape)
    total = np.reshape(np.bincount(flat, np.ravel(weights)[inside], int(np.prod(shape))), shape)
    if density:
        area = np.ones(())
        for k, e in enumerate(edges):
            area = area * np.diff(e).reshape([-1 if j == k else 1 for j in np.arange(len(edges))])
        total = total / numbers_like(total, area) / np.sum(total)
    return total, edges


def is_differentiated(weights: Any) -> bool:
    return isinstance(weights, Tensor) and weights.requires_grad


@composition("histogram")
def histogram(
    a: TensorLike, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    if not is_differentiated(weights):
        return call_on_arrays(np.histogram)(a, bins, range, density, weights)
    edges = np.histogram_bin_edges(np.ravel(arrays_in(a)), arrays_in(bins), range)
    total, _ = histogram_of(lambda x: [np.ravel(arrays_in(x))], a, [edges], None, density, weights)
    return total, Tensor(edges)


@composition("histogram2d")
def histogram2d(
    x: TensorLike, y: TensorLike, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    if not is_differentiated(weights):
        return call_on_arrays(np.histogram2d)(x, y, bins, range, density, weights)
    _, *edges = np.histogram2d(arrays_in(x), arrays_in(y), arrays_in(bins), range)
    total, _ = histogram_of(list, [x, y], edges, None, density, weights)
    return total, *map(Tensor, edges)


@composition("histogramdd")
def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    if not is_differentiated(weights):
        return call_on_arrays(np.histogramdd)(sample, bins, range, density, weights)
    _, edges = np.histogramdd(arrays_in(sample), arrays_in(bins), range)
    total, _ = histogram_of(
        lambda s: list(s.T), np.asarray(arrays_in(sample)), list(edges), None, density, weights
    )
    return total, tuple(map(Tensor, edges))
