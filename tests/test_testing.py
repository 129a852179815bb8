"""The strategies draw what they promise; the property tests pass what is right, and fail and shrink what is
wrong."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import nn, ops
from tinygen.testing import (
    arrays,
    broadcastable_arrays,
    broadcastable_shapes,
    check_layer,
    check_op,
    indices,
    numbers,
    shapes,
)

# -- strategies ------------------------------------------------------------------------------------


@given(broadcastable_shapes(3, min_size=0))
def test_shapes_broadcast(drawn):
    assert len(drawn) == 3
    np.broadcast_shapes(*drawn)


def drawn(strategy, n=300):
    found = []

    @settings(max_examples=n)
    @given(strategy)
    def collect(x):
        found.append(x)

    collect()
    return found


def test_shapes_have_every_rank_and_axes_of_size_0_and_1():
    found = drawn(shapes(min_size=0))
    assert {len(s) for s in found} == {0, 1, 2, 3, 4}
    assert {0, 1, 4} <= {n for s in found for n in s}


def test_broadcastable_shapes_differ_in_rank_and_size():
    found = drawn(broadcastable_shapes(2))
    assert any(len(a) != len(b) for a, b in found)
    assert any(1 in a and len(a) == len(b) and a != b for a, b in found)


def test_arrays_come_in_every_layout():
    found = drawn(arrays((2, 3)))
    assert any(x.flags.f_contiguous for x in found)
    assert any(x.strides[0] < 0 for x in found)
    assert any(not x.flags.c_contiguous and x.strides[0] == 96 for x in found)
    assert {x.dtype for x in found} == {np.dtype(np.float64)}


@given(arrays(shapes(min_size=0), low=-1.0, high=3.0, avoid=(0.0, 3.0, -1.0), margin=0.1))
def test_entries_are_within_bounds_away_from_kinks_and_apart(x):
    assert np.all((x >= -0.9) & (x <= 2.9) & (np.abs(x) >= 0.1))
    if x.size > 1:
        assert np.diff(np.sort(x.ravel())).min() > 0.3 * 3.6 / x.size


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="nothing is left"):
        numbers((2,), 0.0, 0.05, [0.0], 0.1, np.random.default_rng(0))


@given(indices(5))
def test_indices_are_in_range(ids):
    assert ids.dtype.kind == "i"
    assert np.all((ids >= 0) & (ids < 5))


# -- what is right passes --------------------------------------------------------------------------


def test_right_ops_pass():
    check_op(np.multiply, broadcastable_arrays(2, min_size=0), order=2)
    check_op(np.log, arrays(low=0.1))
    check_op(np.abs, arrays(avoid=(0.0,)))
    check_op(lambda x: np.max(x, axis=-1), arrays(shapes(min_rank=1)))
    check_op(ops.embedding, arrays((4, 3)), indices(4))


def test_right_layers_pass():
    make = lambda: nn.Block(4, 2, causal=True, rng=np.random.default_rng(0))
    check_layer(make, ("B", "T", 4), max_examples=5, max_entries=100)
    cross = lambda: nn.CrossAttention(4, 2, 3, rng=np.random.default_rng(0))
    check_layer(cross, ("B", "T", 4), ("B", "S", 3), max_examples=5, max_entries=100)


# -- what is wrong fails, at the smallest shapes ---------------------------------------------------


@tinygen.op
def add_with_the_mean_over_rows(x, bias):
    """Right as long as there is one row."""
    return x + bias, lambda g: g, lambda g: g.mean(axis=0)


@st.composite
def rows_and_bias(draw):
    n, c = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return draw(arrays((n, c))), draw(arrays((c,)))


def test_a_wrong_op_fails_and_is_shrunk():
    with pytest.raises(AssertionError, match=r"is 0\.5 times") as failure:
        check_op(add_with_the_mean_over_rows, rows_and_bias())
    words = str(failure.value)
    assert "at inputs float64 (2, 1), float64 (1,)" in words
    assert "add_with_the_mean_over_rows" in words


@tinygen.op
def log_softmax_that_passes_on(x):
    """At shape () and at a single column it is a constant: there every gradient is off in the same way."""
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True)), lambda g: g


@tinygen.op
def product_with_the_other_factor(a, b):
    return a * b, lambda g: g * a, lambda g: g * b


def test_a_mistake_stays_what_it_is_while_it_is_shrunk():
    with pytest.raises(AssertionError, match="wrong term") as failure:
        check_op(log_softmax_that_passes_on, arrays(shapes(min_rank=1)))
    assert "(1,)" not in str(failure.value).splitlines()[0]
    with pytest.raises(AssertionError, match="wrong place"):
        check_op(product_with_the_other_factor, shapes().flatmap(lambda s: st.tuples(arrays(s), arrays(s))))


class Scale(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.ones(3, dtype=np.float32))

    def forward(self, x):
        return x * self.weight.detach()


def test_a_wrong_layer_fails_and_names_its_parameter():
    with pytest.raises(AssertionError, match="parameter weight") as failure:
        check_layer(Scale, ("B", 3))
    assert "at inputs float64 (1, 3)" in str(failure.value)


@tinygen.op
def square_read_as_it_lies(x):
    flat = np.ravel(x, order="K")
    return (flat * flat).reshape(x.shape), lambda g: 2 * g * x


def test_a_value_that_depends_on_layout_fails():
    with pytest.raises(AssertionError):
        check_op(square_read_as_it_lies, arrays((2, 2)))


def test_the_message_under_pytest_is_the_report(tmp_path):
    file = tmp_path / "test_mine.py"
    file.write_text(
        textwrap.dedent("""
            import tinygen
            from tinygen.testing import arrays, check_op

            @tinygen.op
            def cube(x):
                return x * x * x, lambda g: 2 * g * x * x

            def test_cube():
                check_op(cube, arrays())
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "wrong constant" in done.stdout
    assert "0.666667 times what it should be" in done.stdout
    assert "the first wrong op is cube(float64 ())" in done.stdout


def test_hypothesis_is_needed_nowhere_else():
    code = "import sys, tinygen; sys.exit('hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
