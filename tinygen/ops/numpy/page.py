"""docs/numpy.md, made from the table: `python -m tinygen.ops.numpy.page > docs/numpy.md`."""

from __future__ import annotations

from tinygen.ops.numpy.table import FAMILIES, METHODS, Row, rows

WORDS = {
    "gradient": "has gradients",
    "plain": "plain value",
    "refused": "refused",
    "outside": "takes no Tensor",
}
OPENING = """# NumPy on Tensors

NumPy is the only language here: `np.sort(x)`, `x.prod(axis=0)`, `np.linalg.norm(x)` work on Tensors as on
arrays, and return Tensors. This page lists every function of NumPy's main namespace, of `numpy.linalg` and
`numpy.fft`, and every method of `ndarray`. It is made from the table in `tinygen/ops/numpy/table.py`;
`tests/ops/test_numpy_table.py` checks that the table is complete, that this page is current, and that each
function does what its row says.

- **has gradients**: of every order, for all arguments that are Tensors. This holds for every function
  that has a derivative, except two that NumPy does not pass on to a Tensor: `np.array` of a list (use
  `np.stack`), and `np.full` (use `np.full_like`).
- **plain value**: whole numbers, truth values, indices, strings and step functions do not change if the
  argument changes a little, so they have no derivative. These functions, such as `argmax`, return
  constants (Tensors off the tape, or Python's numbers). `sign` and `heaviside` stay on the tape with the
  slope 0, because the second derivatives of |x| and max(x, 0) need them.
- **refused**: the function raises a TypeError that says why, and what to write instead. Only functions
  that write in place, work on Python's objects, or make arrays outside the tape are refused.
- **takes no Tensor**: the function makes arrays of numbers, or handles dtypes, files and settings.

A Tensor keeps its dtype: float32 stays float32 where NumPy would convert to float64. `out=` is refused
everywhere. `where=` is refused for ufuncs (not for reductions), since the entries that it leaves out have
no value. The methods `reduce`, `accumulate`, `outer` and `reduceat` of ufuncs, as in `np.add.reduce`,
have gradients, too; `at` is refused, since it writes in place.
"""


def section(title: str, family: tuple[Row, ...], prefix: str) -> list[str]:
    lines = [f"## {title}", "", "| | functions | |", "|---|---|---|"]
    for row in family:
        names = " ".join(f"`{prefix}{name}`" for name in row.names.split())
        lines.append(f"| {WORDS[row.kind]} | {names} | {row.note} |")
    return [*lines, ""]


def page() -> str:
    """docs/numpy.md."""
    kinds = [row.kind for row in rows().values()]
    methods = [row.kind for row in METHODS for _ in row.names.split()]
    lines = [OPENING, "| | functions | methods of ndarray |", "|---|---|---|"]
    for kind, words in WORDS.items():
        lines.append(f"| {words} | {kinds.count(kind)} | {methods.count(kind)} |")
    lines.append("")
    for title, family in FAMILIES.items():
        lines += section(title, family, "")
    return "\n".join([*lines, *section("Methods and attributes of ndarray", METHODS, "x.")])


if __name__ == "__main__":
    print(page(), end="")
