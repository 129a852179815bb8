"""Every function of NumPy's main namespace, `numpy.linalg` and `numpy.fft`, and every method of ndarray, and
how it behaves on Tensors. `page.py` makes docs/numpy.md from it.

A function is
- "gradient": it has a derivative, and gradients of every order;
- "plain": it has none (whole numbers, truth values, indices, texts); it answers with constants, off the tape;
- "refused": it raises TypeError, which says the row's note: why, and what to write instead;
- "outside": it takes no Tensor: it makes arrays of numbers, or is about dtypes, files and settings.
"""

from __future__ import annotations

from typing import NamedTuple

from tinygen.tensor import REFUSED


class Row(NamedTuple):
    kind: str
    names: str
    note: str = ""


FAMILIES: dict[str, tuple[Row, ...]] = {
    "Arithmetic": (
        Row("gradient", "add subtract multiply divide true_divide negative positive square reciprocal"),
        Row("gradient", "power pow float_power", "by the exponent too, where the base is positive"),
        Row("gradient", "absolute abs fabs", "the slope at 0 is 0"),
        Row("gradient", "sqrt cbrt hypot", "hypot's slope at (0, 0) is 0"),
        Row("gradient", "remainder mod fmod divmod", "between the jumps; divmod's first answer is plain"),
        Row("gradient", "maximum minimum fmax fmin", "equal entries share the gradient"),
        Row("gradient", "clip", "the limits have gradients too"),
        Row(
            "gradient",
            "sign heaviside copysign",
            "a step has the slope 0; heaviside's value at 0 has a gradient",
        ),
        Row("gradient", "modf frexp ldexp", "of the part that moves; whole numbers and exponents are plain"),
        Row("gradient", "nan_to_num", "what was replaced gets none; copy=False would write in place"),
        Row(
            "gradient", "real imag angle conj conjugate real_if_close", "complex numbers: see docs/arrays.md"
        ),
        Row(
            "plain",
            "floor ceil trunc rint fix round around floor_divide",
            "steps: constant between their jumps",
        ),
        Row("plain", "nextafter spacing", "about the grid of floating-point numbers"),
        Row("plain", "gcd lcm", "whole numbers"),
    ),
    "Exponentials, logarithms, trigonometry": (
        Row("gradient", "exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2"),
        Row("gradient", "sin cos tan arcsin asin arccos acos arctan atan arctan2 atan2 sinc unwrap"),
        Row("gradient", "sinh cosh tanh arcsinh asinh arccosh acosh arctanh atanh"),
        Row("gradient", "deg2rad radians rad2deg degrees i0"),
    ),
    "Comparisons, tests, bits": (
        Row(
            "plain",
            "equal not_equal less less_equal greater greater_equal isclose allclose array_equal array_equiv",
        ),
        Row("plain", "logical_and logical_or logical_xor logical_not all any isin in1d"),
        Row(
            "plain",
            "isnan isinf isfinite isposinf isneginf signbit isreal iscomplex isrealobj iscomplexobj isnat",
        ),
        Row("plain", "bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_invert invert bitwise_count"),
        Row("plain", "left_shift right_shift bitwise_left_shift bitwise_right_shift packbits unpackbits"),
        Row("plain", "shares_memory may_share_memory"),
    ),
    "Reductions and running ones": (
        Row("gradient", "sum mean var std ptp", "with dtype=, initial= and where= as in NumPy"),
        Row("gradient", "max amax min amin", "entries that share the extreme share its gradient equally"),
        Row(
            "gradient",
            "prod cumprod cumulative_prod cumsum cumulative_sum",
            "exact with zeros among the factors",
        ),
        Row("gradient", "nansum nanprod nanmean nanvar nanstd nanmax nanmin nancumsum nancumprod"),
        Row(
            "gradient",
            "median quantile percentile nanmedian nanquantile nanpercentile",
            "all methods; weights= are constants",
        ),
        Row("gradient", "average cov corrcoef", "by the weights too"),
        Row(
            "gradient",
            "bincount histogram histogram2d histogramdd",
            "by the weights; counts and edges are plain",
        ),
        Row(
            "plain",
            "count_nonzero argmax argmin nanargmax nanargmin histogram_bin_edges digitize",
            "counts, indices",
        ),
    ),
    "Order and distinct values": (
        Row("gradient", "sort partition sort_complex", "equal entries stay in order"),
        Row(
            "gradient",
            "unique unique_values unique_all unique_counts unique_inverse",
            "values; the rest is plain",
        ),
        Row("gradient", "union1d intersect1d setdiff1d setxor1d trim_zeros"),
        Row("plain", "argsort argpartition lexsort searchsorted", "indices"),
    ),
    "Shape": (
        Row("gradient", "reshape ravel squeeze expand_dims transpose permute_dims matrix_transpose swapaxes"),
        Row("gradient", "moveaxis rollaxis roll flip fliplr flipud rot90 atleast_1d atleast_2d atleast_3d"),
        Row("gradient", "broadcast_to broadcast_arrays meshgrid copy astype"),
        Row("plain", "shape ndim size", "Python's numbers"),
    ),
    "Joining and cutting": (
        Row(
            "gradient",
            "concatenate concat stack vstack row_stack hstack dstack column_stack block append insert",
        ),
        Row("gradient", "split array_split vsplit hsplit dsplit unstack delete resize repeat tile"),
        Row("gradient", "pad", 'every mode but "empty" (anything may stand there) and functions (in place)'),
        Row("gradient", "tril triu diag diagflat diagonal trace vander"),
    ),
    "Indexing and choosing": (
        Row("gradient", "take take_along_axis compress extract where choose select piecewise"),
        Row("gradient", "apply_along_axis apply_over_axes", "a Python loop over the slices"),
        Row("plain", "nonzero flatnonzero argwhere ix_ unravel_index ravel_multi_index", "indices"),
        Row("plain", "diag_indices_from tril_indices_from triu_indices_from", "indices"),
        Row(
            "refused",
            "put place putmask copyto put_along_axis fill_diagonal",
            "it writes into an array, and the graph would be lost: build the result with np.where, "
            "np.concatenate or tinygen.ops.scatter_add",
        ),
    ),
    "Calculus, polynomials, grids": (
        Row(
            "gradient",
            "diff ediff1d gradient trapezoid trapz interp convolve correlate",
            "interp by the knots too",
        ),
        Row("gradient", "polyval polyadd polysub polymul polydiv polyder polyint polyfit poly poly1d roots"),
        Row("gradient", "linspace logspace geomspace", "by both ends"),
    ),
    "Products": (
        Row("gradient", "matmul dot inner outer vdot vecdot matvec vecmat tensordot einsum kron cross"),
        Row("plain", "einsum_path", "an order of contractions"),
    ),
    "New arrays like another": (
        Row("plain", "zeros_like ones_like empty_like", "constants"),
        Row("gradient", "full_like", "by the value that fills it"),
    ),
    "numpy.linalg": (
        Row(
            "gradient",
            "linalg.matmul linalg.tensordot linalg.vecdot linalg.outer linalg.cross linalg.multi_dot",
        ),
        Row("gradient", "linalg.matrix_transpose linalg.diagonal linalg.trace linalg.matrix_power"),
        Row("gradient", "linalg.norm linalg.vector_norm linalg.matrix_norm linalg.cond"),
        Row("gradient", "linalg.inv linalg.solve linalg.det linalg.slogdet linalg.pinv linalg.lstsq"),
        Row("gradient", "linalg.tensorinv linalg.tensorsolve linalg.cholesky linalg.qr"),
        Row(
            "gradient",
            "linalg.eigh linalg.eigvalsh linalg.eig linalg.eigvals linalg.svd linalg.svdvals",
            "where it is smooth: no two eigenvalues, or singular values, are equal",
        ),
        Row("plain", "linalg.matrix_rank", "a count"),
    ),
    "numpy.fft": (
        Row("gradient", "fft.fft fft.ifft fft.fft2 fft.ifft2 fft.fftn fft.ifftn fft.hfft fft.ihfft"),
        Row(
            "gradient",
            "fft.rfft fft.irfft fft.rfft2 fft.irfft2 fft.rfftn fft.irfftn fft.fftshift fft.ifftshift",
        ),
        Row("outside", "fft.fftfreq fft.rfftfreq", "of numbers"),
    ),
    "Texts, files, dtypes": (
        Row("plain", "array2string array_repr array_str", "texts"),
        Row("plain", "save savez savez_compressed savetxt", "the values, in a file"),
        Row("plain", "result_type can_cast common_type min_scalar_type", "dtypes"),
        Row("outside", "promote_types issubdtype isdtype mintypecode typename isscalar iterable isfortran"),
        Row("outside", "binary_repr base_repr format_float_positional format_float_scientific info"),
        Row("outside", "load loadtxt genfromtxt fromfile fromregex fromstring frombuffer from_dlpack"),
        Row(
            "outside",
            "get_printoptions set_printoptions printoptions getbufsize setbufsize geterr seterr geterrcall",
        ),
        Row("outside", "seterrcall errstate get_include show_config show_runtime test linalg.test fft.test"),
    ),
    "Arrays of numbers": (
        Row("outside", "zeros ones empty eye identity tri arange indices fromfunction broadcast_shapes"),
        Row(
            "outside",
            "bartlett blackman hamming hanning kaiser mask_indices diag_indices tril_indices triu_indices",
        ),
        Row(
            "refused",
            "array asarray asanyarray asarray_chkfinite ascontiguousarray asfortranarray require asmatrix "
            "bmat fromiter",
            "it makes an array, which has no graph: use np.stack of Tensors, np.copy, or t.numpy() for the "
            "values. Constants are taken",
        ),
        Row("refused", "full", "NumPy does not ask the Tensor: np.full_like(x, value), or np.broadcast_to"),
    ),
    "Objects, dates, iterators": (
        Row(
            "refused",
            "vectorize frompyfunc nditer nested_iters ndenumerate broadcast flatiter",
            "it works on entries as Python's objects, which have no graph: write it with functions of arrays",
        ),
        Row(
            "refused",
            "busday_count busday_offset is_busday datetime_as_string datetime_data busdaycalendar",
            "it is about dates, which Tensors do not hold: use t.numpy()",
        ),
        Row("outside", "ndindex ndarray matrix memmap recarray record ufunc dtype finfo iinfo generic"),
        Row(
            "outside",
            "number integer signedinteger unsignedinteger inexact floating complexfloating flexible",
        ),
        Row(
            "outside",
            "character bool bool_ byte ubyte short ushort intc uintc int_ uint long ulong longlong ulonglong",
        ),
        Row(
            "outside",
            "int8 int16 int32 int64 uint8 uint16 uint32 uint64 intp uintp half single double longdouble",
        ),
        Row(
            "outside",
            "float16 float32 float64 float96 float128 csingle cdouble clongdouble complex64 complex128",
        ),
        Row(
            "outside",
            "complex192 complex256 object_ bytes_ str_ void datetime64 timedelta64 linalg.LinAlgError",
        ),
    ),
}
"""Family -> its rows. Names are written as after `np.`; not every version of NumPy 2 has all of them."""

METHODS: tuple[Row, ...] = (
    Row("gradient", "sum mean var std max min prod cumsum cumprod trace dot clip"),
    Row(
        "gradient",
        "reshape ravel flatten squeeze transpose swapaxes T mT diagonal repeat take choose compress",
    ),
    Row("gradient", "copy astype real imag conj conjugate"),
    Row("plain", "all any argmax argmin argsort argpartition nonzero searchsorted round", "constants"),
    Row(
        "plain", "shape ndim size dtype nbytes itemsize strides flags device data item tolist tobytes tofile"
    ),
    Row(
        "refused",
        "sort partition fill put resize byteswap setfield setflags",
        "it writes in place: np.sort(x), np.partition, np.full_like, np.where, np.resize give new Tensors",
    ),
    Row(
        "refused",
        "base ctypes view getfield dump dumps flat to_device",
        "of the array, not of the tensor: x.numpy() has it. For to_device, x.to(device); for flat, x.ravel()",
    ),
)
"""ndarray's methods and attributes. Its operators are all there: + - * / // % ** @ divmod, & | ^ ~ << >>,
comparisons, abs, round, bool, int, float, complex, len, iter, in, format."""


def rows() -> dict[str, Row]:
    """Name -> its row."""
    return {name: row for family in FAMILIES.values() for row in family for name in row.names.split()}


REFUSED.update({name: row.note for name, row in rows().items() if row.kind == "refused"})
