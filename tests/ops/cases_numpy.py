# ruff: noqa: E501 (a case is one line)
"""Cases of NumPy's other functions that have a derivative, as a user calls them: one line a way of calling.

Floating-point arrays among the inputs are differentiated. `f` is called with Tensors and with arrays, where
it is NumPy itself: the two must agree. A case's name begins with the function's name in NumPy.
"""

from typing import Any

import numpy as np
from optable import Case, distinct, normal, off_zero, positive

try:
    import torch
except ImportError:  # the counterparts are called only where torch is there
    torch = None

X, Y, V, W = off_zero(normal(2, 3)), off_zero(normal(2, 3)), off_zero(normal(3)), positive(normal(3))
S, P, SQ = distinct(2, 3), positive(normal(2, 3)), normal(3, 3)
UNIT = np.array([-0.7, 0.2, 0.45])
HOLES = np.array([[0.3, np.nan, -1.2], [2.0, 0.7, np.nan]])
ZEROS = np.array([[0.0, 2.0, -1.5, 0.5], [0.0, 3.0, 0.0, 2.0], [1.5, 2.0, 3.0, -0.5]])
BITS = np.array([[True, False, True], [True, True, False]])
KNOTS = np.array([-1.0, 0.2, 0.9, 2.0])


def each(names: str, *inputs: Any, **torchs: Any) -> list[Case]:
    """One case a function, called with all the inputs; in torch it has the same name, or the one given."""

    def in_torch(name: str) -> Any:
        other = torchs.get(name, name)
        return (lambda *xs: getattr(torch, other)(*xs)) if other and hasattr(torch, other) else None

    return [Case(name, getattr(np, name), inputs, in_torch(name)) for name in names.split()]


def case(name: str, f: Any, *inputs: Any, torch: Any = None) -> Case:
    return Case(name, f, inputs, torch)


ENTRYWISE = [
    *each("exp2 sinh cosh arcsinh arctan deg2rad rad2deg sinc", normal(2, 3)),
    *each("tan", UNIT),
    *each("log2 arccosh", 1.2 + positive(normal(2, 2)).T),
    *each("log10", positive(normal(2, 1, 2))[:, ::-1]),
    *each("arcsin arccos arctanh", UNIT),
    *each("cbrt", X, cbrt=None),
    *each("i0", np.array([-2.0, 0.0, 0.4])),
    case("i0-scaled", lambda x: np.i0(x) * np.exp(-np.abs(x)), np.array([-31.0, 29.0, 12.0])),
    *each("i0", normal(2, 2)),
    *each("sinc", np.array([0.0, 1e-5, 0.299, -0.301, 1.0, 2.5]), sinc=None),
    *each("arctan2 hypot logaddexp logaddexp2 copysign fmax fmin", S, np.abs(distinct(2, 3)[::-1]) + 0.53),
    *each("fmax fmin copysign", S, distinct(2, 3)[::-1] + 0.03),
    *each("logaddexp", normal(2, 1), np.full((2, 3), -np.inf)[0]),
    *each("float_power", P, V, float_power="pow"),
    case("float_power-2", lambda x: np.float_power(x, 2), X),
    *each("fmax fmin", HOLES, np.array([1.0, 0.4, 3.0])),
    *each("remainder fmod", np.array([[5.3, -4.2, 0.7]]), np.array([[2.0], [-1.5]])),
    case("remainder-operator", lambda x: x % 0.7 + 2 % x, P),
    case("divmod", lambda x: np.divmod(x, 0.7)[1] * np.divmod(x, 0.7)[0], P),
    case("modf", lambda x: np.modf(x)[0] * np.modf(x)[1], 3 * X),
    case("frexp", lambda x: np.frexp(x)[0] * np.frexp(x)[1], 3 * X),
    case("ldexp", lambda x, i: np.ldexp(x, i), X, np.array([1, -2, 3])),
    case("heaviside", lambda x, h: np.heaviside(x * 0, h), X, V),
    case("nan_to_num", np.nan_to_num, HOLES),
    case("nan_to_num-infinite", lambda x, y: np.nan_to_num(x + y, posinf=2.0, neginf=-3.0), X, np.array([np.inf, 0.0, -np.inf])),
    case("positive", lambda x: +x, X),
    case("unwrap", np.unwrap, np.array([0.3, 3.0, 5.9, 12.0, -9.0])),
    case("unwrap-period", lambda x: np.unwrap(x, axis=0, period=4), 3 * SQ),
    case("clip-between arrays", lambda x, a, b: np.clip(x, a, b), S, np.full((2, 1), -0.21), np.array([0.03, 0.13, -0.3])),
    case("clip-names", lambda x: np.clip(x, a_min=-0.3, a_max=None) + x.clip(min=-0.2, max=0.07), S),
    case("fix", lambda x: x * np.fix(x), 3 * X),
    case("round", lambda x: x * np.round(x, 1) + np.around(x) * x, X),
    *each("real real_if_close", X, real=None),
]  # fmt: skip

REDUCTIONS = [
    case("prod", np.prod, X, torch=lambda x: x.prod()),
    case("prod-axis", lambda x: np.prod(x, axis=-1), ZEROS, torch=lambda x: x.prod(-1)),
    case("prod-axes", lambda x: np.prod(x, axis=(0, 2), keepdims=True), normal(2, 2, 2)),
    case("prod-where", lambda x, m: np.prod(x, axis=0, where=m, initial=2.0), X, BITS),
    case("prod-size 0", lambda x: np.prod(x, axis=0) + np.prod(x), normal(0, 3)),
    case("cumprod", np.cumprod, X, torch=lambda x: x.flatten().cumprod(0)),
    case("cumprod-axis", lambda x: np.cumprod(x, axis=1), ZEROS, torch=lambda x: x.cumprod(1)),
    case("cumprod-one", lambda x: np.cumprod(x, 1), normal(2, 1)),
    case("cumsum-dtype", lambda x: np.cumsum(x, axis=1, dtype=x.dtype), X),
    *([case("cumulative_sum", lambda x: np.cumulative_sum(x, axis=0, include_initial=True), X), case("cumulative_prod", lambda x: np.cumulative_prod(x, axis=1, include_initial=True), X)] if hasattr(np, "cumulative_sum") else []),
    case("sum-where", lambda x, m: np.sum(x, axis=1, where=m, initial=2.0), X, BITS),
    case("sum-dtype", lambda x: np.sum(x, 0, x.dtype) + x.sum(dtype=x.dtype), X),
    case("mean-where", lambda x, m: np.mean(x, axis=-1, where=m, keepdims=True), X, BITS),
    case("var-where", lambda x, m: np.var(x, axis=1, where=m, ddof=1), ZEROS + 0.1, np.array([[True, False, True, True]] * 3)),
    case("std-where", lambda x, m: np.std(x, where=m), X, BITS),
    case("max-where", lambda x, m: np.max(x, axis=1, initial=-9.0, where=m), S, BITS),
    case("min-initial", lambda x: np.min(x, initial=-0.2, axis=0), S),
    case("ptp", np.ptp, S),
    case("ptp-axis", lambda x: np.ptp(x, axis=1, keepdims=True), S),
    case("nansum", lambda x: np.nansum(x, axis=0), HOLES, torch=lambda x: x.nansum(0)),
    case("nanmean", lambda x: np.nanmean(x, axis=1), HOLES, torch=lambda x: x.nanmean(1)),
    *each("nanprod nancumsum nancumprod nanmax nanmin nanvar nanstd nanmedian", HOLES, **dict.fromkeys(("nanmedian",))),
    case("nanmax-axis", lambda x: np.nanmax(x, axis=1), HOLES),
    case("nanvar-ddof", lambda x: np.nanvar(x, axis=1, ddof=1), HOLES),
    case("nanquantile", lambda x: np.nanquantile(x, [0.3, 0.9], axis=1, keepdims=True), HOLES),
    case("nanpercentile", lambda x: np.nanpercentile(x, 40), HOLES),
    case("median", np.median, distinct(2, 2), torch=lambda x: x.quantile(0.5)),
    case("median-axes", lambda x: np.median(x, axis=(0, 2), keepdims=True), distinct(2, 2, 3)),
    case("quantile", lambda x: np.quantile(x, [0.1, 0.25, 1.0], axis=0), distinct(4, 2), torch=lambda x: x.quantile(torch.tensor([0.1, 0.25, 1.0], dtype=x.dtype), 0)),
    *[case(f"quantile-{m}", lambda x, m=m: np.quantile(x, [0.2, 0.6], axis=1, method=m), distinct(2, 5)) for m in ("lower", "higher", "midpoint", "nearest", "hazen", "weibull", "inverted_cdf", "averaged_inverted_cdf", "median_unbiased")],
    case("quantile-weights", lambda x: np.quantile(x, [0.2, 0.7], axis=1, weights=np.array([1.0, 2.0, 0.5]), method="inverted_cdf"), S),
    case("nanquantile-weights", lambda x: np.nanquantile(x, 0.5, weights=np.arange(1.0, 7.0).reshape(2, 3), method="inverted_cdf"), HOLES),
    case("percentile", lambda x: np.percentile(x, 30.0), distinct(5)),
    case("average", np.average, X),
    case("average-weights", lambda x, w: np.average(x, axis=1, weights=w), X, W),
    case("average-weights of its shape", lambda x, w: np.average(x, weights=w, axis=0, keepdims=True), X, P),
    case("average-returned", lambda x, w: np.average(x, 1, w, True)[1] * np.average(x, 1, w, returned=True)[0], X, W),
    case("cov", np.cov, normal(2, 4), torch=lambda x: x.cov()),
    case("cov-weights", lambda x, w: np.cov(x, aweights=w, fweights=np.array([1, 2, 1]), ddof=1), X, W),
    case("cov-columns", lambda x, y: np.cov(x, y, rowvar=False, bias=True), normal(4, 2), normal(4, 1)),
    case("corrcoef", np.corrcoef, normal(2, 4), torch=lambda x: x.corrcoef()),
    case("bincount", lambda w: np.bincount(np.array([0, 2, 2]), weights=w, minlength=4), V),
    case("histogram-weights", lambda w: np.histogram(np.array([0.1, 0.5, 0.9]), bins=3, weights=w, density=True)[0], W),
    case("histogram2d-weights", lambda w: np.histogram2d(np.array([0.1, 0.5, 0.9]), np.array([1.0, 2.0, 2.0]), bins=2, weights=w)[0], W),
    case("histogramdd-weights", lambda w: np.histogramdd(np.arange(6.0).reshape(3, 2), bins=2, weights=w)[0], W),
]  # fmt: skip

ORDER = [
    case("sort", np.sort, S[:, ::-1], torch=lambda x: x.sort().values),
    case("sort-axis", lambda x: np.sort(x, axis=0), distinct(3, 2), torch=lambda x: x.sort(0).values),
    case("sort-flat", lambda x: np.sort(x, axis=None), S),
    case("sort-size 0", np.sort, normal(2, 0)),
    case("partition", lambda x: np.partition(x, 1)[..., 1] * np.partition(x, 1)[..., :1].sum(), S),
    case("unique", np.unique, S),
    case("unique-axis", lambda x: np.unique(x, axis=0), S),
    case("unique-counts", lambda x: np.unique(x, return_counts=True)[0] * np.unique(x, return_counts=True)[1], S),
    case("unique_values", lambda x: np.sort(np.unique_values(x)), S),
    case("unique_all", lambda x: np.unique_all(x).values, S),
    case("unique_counts", lambda x: np.unique_counts(x).values, S),
    case("unique_inverse", lambda x: np.unique_inverse(x).values, S),
    case("union1d", np.union1d, V, W),
    case("intersect1d", lambda x: np.intersect1d(x, x[1:]), S[0]),
    case("setdiff1d", lambda x: np.setdiff1d(x, x[:1]), S[0]),
    case("setxor1d", lambda x: np.setxor1d(x, x[:1]), S[0]),
    case("trim_zeros", lambda x: np.trim_zeros(x * (np.abs(x) > 0.4)), np.array([0.1, 0.7, 0.2, -0.9, 0.3])),
    case("trim_zeros-front", lambda x: np.trim_zeros(x * (np.abs(x) > 0.4), "f"), np.array([0.1, 0.7, 0.2, -0.9, 0.3])),
]  # fmt: skip

JOINED = [
    case("vstack", lambda *xs: np.vstack(xs), X, Y),
    case("hstack", lambda *xs: np.hstack(xs), X, Y),
    case("dstack", lambda *xs: np.dstack(xs), X, Y),
    case("column_stack", lambda *xs: np.column_stack(xs), X, V[:2]),
    case("vstack-vectors", lambda *xs: np.vstack(xs), V, W, torch=lambda *xs: torch.vstack(xs)),
    case("hstack-vectors", lambda *xs: np.hstack(xs), V, W, torch=lambda *xs: torch.hstack(xs)),
    case("dstack-vectors", lambda *xs: np.dstack(xs), V, W, torch=lambda *xs: torch.dstack(xs)),
    case("column_stack-vectors", lambda *xs: np.column_stack(xs), V, W, torch=lambda *xs: torch.column_stack(xs)),
    case("concatenate-flat", lambda *xs: np.concatenate(xs, axis=None), X, V),
    case("concatenate-with a list", lambda x: np.concatenate([x, [1.0, 2.0]]), V),
    case("stack-dtype", lambda *xs: np.stack(xs, dtype=xs[0].dtype), V, W),
    case("block", lambda a, b: np.block([[a, b], [b, a]]), X, Y),
    case("block-vectors", lambda a, b: np.block([a, b, 2.0]), V, W),
    case("append", lambda a, b: np.append(a, b), X, V),
    case("append-axis", lambda a, b: np.append(a, b, axis=1), X, Y),
    case("insert", lambda a, b: np.insert(a, 1, b, axis=0), X, V),
    case("insert-many", lambda a: np.insert(a, [0, 2, 2], [7.0, 8.0, 9.0]), V),
    case("delete", lambda a: np.delete(a, 1, axis=1), X),
    case("delete-slice", lambda a: np.delete(a, slice(0, 4, 2)), X),
    case("resize", lambda a: np.resize(a, (2, 4)), X),
    case("compress", lambda a: np.compress([True, False, True], a, axis=1), X),
    case("extract", lambda a: np.extract(BITS, a), X),
    case("repeat-counts", lambda a: np.repeat(a, [2, 0, 1], axis=1), X, torch=lambda x: x.repeat_interleave(torch.tensor([2, 0, 1]), 1)),
    case("repeat-flat counts", lambda a: np.repeat(a, np.array([1, 2, 0])), V),
    case("array_split", lambda a: [y * i for i, y in enumerate(np.array_split(a, 2, axis=1))], X),
    case("array_split-at", lambda a: np.array_split(a, [1, 2]), V),
    case("split-list", lambda a: list(np.split(a, [1], axis=1)), X),
    case("vsplit", lambda a: list(np.vsplit(a, 2)), X),
    case("hsplit", lambda a: list(np.hsplit(a, [1])), X),
    case("dsplit", lambda a: list(np.dsplit(a, 2)), normal(1, 2, 2)),
    *([case("unstack", lambda a: list(np.unstack(a, axis=1)), X)] if hasattr(np, "unstack") else []),
    *[case(f"pad-{m}", lambda a, m=m: np.pad(a, ((1, 2), (2, 4)), mode=m), SQ[:2]) for m in ("edge", "reflect", "symmetric", "wrap", "linear_ramp", "mean", "maximum", "minimum", "median")],
    *[case(f"pad-odd {m}", lambda a, m=m: np.pad(a, (4, 3), mode=m, reflect_type="odd"), V) for m in ("reflect", "symmetric")],
    case("pad-values", lambda a: np.pad(a, ((1, 0), (2, 1)), constant_values=((1.0, 2.0), (3.0, 4.0))), X),
    case("pad-lengths", lambda a: np.pad(a, 1, mode="mean", stat_length=2), X),
    case("pad-ramp to", lambda a: np.pad(a, (2, 1), mode="linear_ramp", end_values=(3.0, -1.0)), V),
]  # fmt: skip

SHAPES = [
    *each("flipud fliplr rot90 matrix_transpose", X, matrix_transpose=None),
    *[case(f"rot90-{k}", lambda a, k=k: np.rot90(a, k, axes=(0, 2)), normal(2, 2, 3)) for k in (-1, 2)],
    case("rollaxis", lambda a: np.rollaxis(a, 2), normal(2, 1, 3)),
    case("rollaxis-start", lambda a: np.rollaxis(a, 0, 3), normal(2, 1, 3)),
    case("roll-lists", lambda a: np.roll(a, [1, 2], [0, 1]), X),
    case("roll-one shift", lambda a: np.roll(a, 1, (0, 1)), X),
    case("reshape-by columns", lambda a: np.reshape(a, (3, 2), order="F"), X),
    case("ravel-by columns", lambda a: np.ravel(a, order="F"), X),
    *each("atleast_1d atleast_2d atleast_3d", np.asarray(0.3)),
    *each("atleast_2d atleast_3d", V, atleast_3d=None),
    case("broadcast_arrays", lambda a, b: list(np.broadcast_arrays(a, b)), V, normal(2, 1)),
    case("meshgrid", lambda a, b: list(np.meshgrid(a, b)), V, normal(2)),
    case("meshgrid-one", lambda a: list(np.meshgrid(a)), V),
    case("meshgrid-ij", lambda a, b: list(np.meshgrid(a, b, indexing="ij", sparse=True)), V, normal(2)),
    case("expand_dims-list", lambda a: np.expand_dims(a, [0, 2]), V),
    case("expand_dims-NumPy's integer", lambda a: np.expand_dims(a, np.int64(1)).sum(axis=np.int64(0)), V),
    case("copy", lambda a: np.copy(a), X.T),
    *([case("astype", lambda a: np.astype(a, a.dtype), X)] if hasattr(np, "astype") else []),
    case("full_like", lambda a, v: a * np.full_like(a, v), X, np.asarray(0.7)),
    *each("diagonal trace diag diagflat", SQ, diagonal=None),
    case("diag-of a vector", lambda a: np.diag(a, -1), V, torch=lambda a: a.diag(-1)),
    case("diag-below", lambda a: np.diag(a, -1), normal(4, 2), torch=lambda a: a.diag(-1)),
    case("diagonal-axes", lambda a: np.diagonal(a, 1, 2, 0), normal(2, 2, 3), torch=lambda a: a.diagonal(1, 2, 0)),
    case("trace-axes", lambda a: np.trace(a, offset=-1, axis1=1, axis2=2), normal(2, 3, 3)),
    case("vander", np.vander, V, torch=None),
    case("vander-increasing", lambda a: np.vander(a, 4, increasing=True), np.array([0.0, 1.5])),
    case("take-wrap", lambda a: np.take(a, [-4, 5], axis=1, mode="wrap") + np.take(a, [-4, 5], axis=1, mode="clip"), X),
    case("take_along_axis-flat", lambda a: np.take_along_axis(a, np.array([5, 0, 5]), None), X),
]  # fmt: skip

CHOICES = [
    case("select", lambda a, b: np.select([a > 0.1, a > -0.3], [a, b * a], default=0.5), S, Y),
    case("choose", lambda a, b: np.choose(np.array([0, 1, 0]), [a, b]), X, V),
    case("choose-wrap", lambda a, b: np.choose(np.array([3, -1, 0]), [a, b], mode="wrap") + np.choose(np.array([3, -1, 0]), [a, b], mode="clip"), X, V),
    case("piecewise", lambda a: np.piecewise(a, [a < 0, a > 0.1], [lambda z: z * z, lambda z: np.sqrt(z), 7.0]), S),
    case("apply_along_axis", lambda a: np.apply_along_axis(lambda z: z * z.sum(), 0, a), X),
    case("apply_along_axis-number", lambda a: np.apply_along_axis(lambda z: (z * z).sum(), 1, a), X),
    case("apply_over_axes", lambda a: np.apply_over_axes(np.sum, a * a, [0, 2]), normal(2, 2, 2)),
]  # fmt: skip

CALCULUS = [
    case("diff", np.diff, X, torch=lambda a: a.diff()),
    case("diff-twice", lambda a: np.diff(a, n=2, axis=0), SQ, torch=lambda a: a.diff(n=2, dim=0)),
    case("diff-prepend", lambda a, b: np.diff(a, axis=1, prepend=0.5, append=b), X, normal(2, 2)),
    case("ediff1d", lambda a: np.ediff1d(a, to_begin=1.0, to_end=[2.0, 3.0]), X),
    case("gradient", lambda a: list(np.gradient(a)), normal(3, 4)),
    case("gradient-distances", lambda a, h: np.gradient(a, h, axis=1, edge_order=2), normal(2, 4), np.asarray(0.7)),
    case("gradient-coordinates", lambda a, x: np.gradient(a, x, edge_order=2), normal(5), np.array([-1.0, 0.2, 0.9, 2.0, 2.5])),
    case("gradient-two entries", lambda a: np.gradient(a, 0.5), normal(2)),
    case("trapezoid", lambda a: np.trapezoid(a, dx=0.5), X),
    case("trapezoid-at", lambda a, x: np.trapezoid(a, x, axis=0), normal(3, 2), np.array([0.0, 1.0, 2.5]), torch=lambda a, x: torch.trapezoid(a, x[:, None], dim=0)),
    case("interp", np.interp, np.array([[-2.0, -0.4], [0.5, 3.0]]), KNOTS, normal(4)),
    case("interp-ends", lambda x, xp, fp: np.interp(x, xp, fp, left=-1.0, right=2.0), np.array([-2.0, 0.5, 3.0]), KNOTS, normal(4)),
    case("interp-period", lambda x, xp, fp: np.interp(x, xp, fp, period=3.0), np.array([-1.7, 0.5, 2.9]), np.array([0.2, 4.0, 2.0]), normal(3)),
    *[case(f"convolve-{m}", lambda a, v, m=m: np.convolve(a, v, m), normal(n), normal(k)) for m, n, k in [("full", 4, 2), ("same", 5, 3), ("same", 4, 4), ("valid", 5, 2), ("same", 2, 5)]],
    *[case(f"correlate-{m}", lambda a, v, m=m: np.correlate(a, v, m), normal(n), normal(k)) for m, n, k in [("full", 4, 2), ("same", 5, 3), ("same", 4, 4), ("same", 5, 2), ("valid", 5, 2), ("same", 2, 5), ("full", 2, 4), ("valid", 2, 4)]],
    case("linspace", lambda a, b: np.linspace(a, b, 4), normal(2), normal(2)),
    case("linspace-open", lambda a, b: np.linspace(a, b, 3, endpoint=False, axis=1), normal(2), np.asarray(2.0)),
    case("linspace-step", lambda a: np.linspace(0.0, a, 3, retstep=True)[1], np.asarray(2.0)),
    case("logspace", lambda a, b: np.logspace(a, b, 3, base=2.0), np.asarray(0.5), np.asarray(2.0)),
    case("geomspace", lambda a, b: np.geomspace(a, b, 4), np.asarray(-0.5), np.asarray(-2.0)),
    case("polyval", np.polyval, V, X),
    case("polyadd", np.polyadd, V, normal(2)),
    case("polysub", np.polysub, normal(2), V),
    case("polymul", np.polymul, V, normal(2)),
    case("polydiv", lambda a, b: list(np.polydiv(a, b)), normal(4), np.array([1.5, -0.4])),
    case("polyder", lambda a: np.polyder(a, 2), normal(4)),
    case("polyint", lambda a: np.polyint(a, 2, k=[1.0, 2.0]), V),
    case("polyfit", lambda x, y: np.polyfit(x, y, 1), np.array([0.0, 1.0, 2.5, 3.0]), normal(4)),
    case("polyfit-weights", lambda x, y, w: np.polyfit(x, y, 1, w=w), np.array([0.0, 1.0, 2.5]), normal(3, 2), W),
    case("poly", np.poly, V),
]  # fmt: skip

PRODUCTS = [
    case("inner", np.inner, X, Y, torch=lambda a, b: torch.inner(a, b)),
    case("vdot", np.vdot, X, Y),
    case("kron", np.kron, X, normal(2, 1), torch=lambda a, b: torch.kron(a, b)),
    case("kron-ranks", np.kron, V, normal(2, 2)),
    case("cross", np.cross, X, V, torch=lambda a, b: torch.linalg.cross(a, b.expand(2, 3))),
    case("cross-axis", lambda a, b: np.cross(a, b, axis=0), SQ, normal(3, 3)),
    case("dot-stacks", np.dot, normal(2, 1, 3), normal(2, 3, 2)),
    case("dot-number", np.dot, np.asarray(0.3), V),
    *[case(name, getattr(np, name), *inputs) for name, inputs in {"vecdot": (X, V), "matvec": (X, V), "vecmat": (normal(2), X)}.items() if hasattr(np, name)],
]  # fmt: skip

UFUNCS = [
    case("add.reduce", lambda a: np.add.reduce(a) * np.add.reduce(a, axis=1, keepdims=True), X),
    case("multiply.reduce", lambda a: np.multiply.reduce(a, axis=1), X),
    case("maximum.reduce", lambda a: np.maximum.reduce(a, axis=None), S),
    case("subtract.reduce", lambda a: np.subtract.reduce(a, axis=1), X),
    case("logaddexp.reduce", lambda a: np.logaddexp.reduce(a, axis=1), X),
    case("hypot.reduce", lambda a: np.hypot.reduce(a, axis=1), X),
    case("add.accumulate", lambda a: np.add.accumulate(a, axis=1), X),
    case("multiply.accumulate", lambda a: np.multiply.accumulate(a), X),
    case("maximum.accumulate", lambda a: np.maximum.accumulate(a, axis=1), S, torch=lambda a: a.cummax(1).values),
    case("subtract.outer", lambda a, b: np.subtract.outer(a, b) ** 2, V, W),
    case("multiply.reduceat", lambda a: np.multiply.reduceat(a, [0, 2, 1], axis=1), normal(2, 4)),
]  # fmt: skip

NUMPY = [*ENTRYWISE, *REDUCTIONS, *ORDER, *JOINED, *SHAPES, *CHOICES, *CALCULUS, *PRODUCTS, *UFUNCS]
