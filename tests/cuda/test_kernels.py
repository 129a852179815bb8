"""Every kernel in the simulator, beside the definition in float64: tiny sizes, drawn at random, and threads
in several orders. The arrays that kernels write to are filled with NaN first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_checks import CHECKS, compare
from kernels import KERNELS
from schedule import ORDERS, scheduled

from tinygen import ops
from tinygen.ops.loss import token_losses
from tinygen.ops.window import Geometry

CLOSE = 3e-6  # of the largest entry: some thirty roundings of float32

orders = st.sampled_from(sorted(ORDERS))
seeds = st.integers(0, 2**16)


def small(most, least=1):
    return st.integers(least, most)


def pairs(least, most):
    return st.tuples(small(most, least), small(most, least))


@st.composite
def maps(draw, channels):
    """A map's shape, a kernel and a geometry that fit; `channels` of out for each of `groups`."""
    groups = draw(small(2))
    shape = (draw(small(2)), groups * draw(small(channels)), *draw(pairs(2, 4)))
    kernel = draw(pairs(1, 2))
    geometry = Geometry(draw(pairs(1, 2)), draw(pairs(0, 1)), draw(pairs(1, 2)), groups)
    if min(geometry.positions(shape[2:], kernel)) < 1:
        geometry = geometry._replace(dilation=(1, 1))
    return shape, kernel, geometry


@st.composite
def heads(draw):
    keys, causal = draw(small(8)), draw(st.booleans())
    return draw(small(2)), draw(small(keys if causal else 8)), keys, draw(small(5)), causal


@st.composite
def convolved(draw):
    shape, kernel, geometry = draw(maps(1))
    return shape, geometry.groups * draw(small(2)), kernel, geometry


SIZES = {
    "reduce": st.tuples(small(3), small(11)),
    "softmax": st.tuples(small(3), small(11)),
    "layer_norm": st.tuples(small(8), small(11)),
    "group_norm": st.tuples(small(2), small(3), small(3), small(5)),
    "gelu": st.tuples(small(11)),
    "cross_entropy": st.tuples(small(5), small(11)),
    "embedding": st.tuples(small(9), small(5), small(4)),
    "columns": maps(2),
    "convolutions": convolved(),
    "adam": st.tuples(small(11)),
    "philox": st.tuples(small(11)),
    "attention": heads(),
}


def test_all_checks_are_made():
    assert SIZES.keys() == CHECKS.keys()


def test_every_family_has_its_check():
    without = {"reduce", "im2col", "flash"} ^ {"reduce", "columns", "convolutions"}  # names that differ
    assert set(vars(KERNELS)) ^ set(CHECKS) <= without


@pytest.mark.parametrize("name", CHECKS)
@settings(max_examples=25)
@given(data=st.data(), seed=seeds, order=orders)
def test_against_the_definition(name, data, seed, order):
    sizes = data.draw(SIZES[name])
    with scheduled(order):
        results = CHECKS[name](KERNELS, np.asarray, np.random.default_rng(seed), *sizes)
    assert results
    assert [r for r in results if not r.error < CLOSE] == []


# -- values that are hard --------------------------------------------------------------------------

far = st.floats(-80, 80, width=32) | st.sampled_from([-np.inf, -1e30, 1e30])


def rows(elements):
    return st.tuples(small(3), small(9)).flatmap(lambda s: arrays(np.float64, s, elements=elements))


def agree(results):
    assert [r for r in results if not r.error < CLOSE] == []


@settings(max_examples=25)
@given(rows(far), seeds, orders)
def test_softmax_of_anything(x, seed, order):
    """Also of rows where nothing may be chosen."""
    with scheduled(order):
        agree(
            compare(KERNELS.softmax.softmax, ops.softmax, x, put=np.asarray, rng=np.random.default_rng(seed))
        )


@settings(max_examples=25)
@given(rows(st.floats(-80, 80, width=32)), seeds, orders)
def test_cross_entropy_of_anything(x, seed, order):
    rng = np.random.default_rng(seed)
    targets = rng.integers(x.shape[1], size=len(x))
    with scheduled(order):
        agree(
            compare(
                KERNELS.cross_entropy.token_losses,
                token_losses,
                x,
                targets,
                -100,
                0.0,
                put=np.asarray,
                rng=rng,
            )
        )


@settings(max_examples=25)
@given(arrays(np.float64, small(9), elements=st.floats(-80, 80, width=32)), st.sampled_from(["none", "tanh"]))
def test_gelu_of_anything(x, approximate):
    with scheduled("up"):
        rng = np.random.default_rng(0)
        agree(compare(KERNELS.gelu.gelu, ops.gelu, x, approximate=approximate, put=np.asarray, rng=rng))


def test_layer_norm_of_a_row_far_from_zero():
    """E[x²] - E[x]² would have no digit left."""
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32) + np.float32(1000)
    one, zero = np.ones(8), np.zeros(8)
    with scheduled("up"):
        y, _ = KERNELS.layer_norm.layer_norm(x, one.astype(np.float32), zero.astype(np.float32))
    expected = ops.layer_norm.op.body(x.astype(np.float64), one, zero)[0]
    np.testing.assert_allclose(y, expected, atol=5e-4)  # x itself has a rounding error of 3e-5


def test_large_offsets():
    """Neither the cross-entropy of logits near 1e8 nor attention of scores near 2^19 loses a digit: as one
    number, maximum + log(sum) would have no digit of the logarithm left."""
    logits = (8.0 * np.random.default_rng(0).integers(-2, 3, (3, 7)) + 1e8).astype(np.float32)
    targets, g = np.array([0, 6, -100]), np.array([1, 2, 3], np.float32)
    q, k, v = np.random.default_rng(1).integers(-3, 4, (3, 1, 5, 4)).astype(np.float32)
    q[..., 0] = k[..., 0] = 2.0**10
    with scheduled("up"):
        losses, rule = KERNELS.cross_entropy.token_losses(logits, targets, -100, 0.0)
        dlogits = rule(g)
        y, rule = KERNELS.flash.flash(q, k, v, True)
        gradients = rule(v)
    small = logits.astype(np.float64) - 1e8
    expected, rule = token_losses.op.body(small, targets, -100, 0.0)
    np.testing.assert_allclose(losses, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dlogits, rule(g), atol=1e-6)
    exact = [x.astype(np.float64) for x in (q, k, v)]
    expected, rule = ops.attention.op.body(*exact, causal=True)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    for found, right in zip(gradients, rule(exact[2]), strict=False):
        np.testing.assert_allclose(found, right, atol=1e-6 * 2**10)  # q and k hold numbers of 2^10


# -- shapes and layouts as ops give them -----------------------------------------------------------


def test_more_axes_and_strides():
    x = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    with scheduled("up"):
        y, rule = KERNELS.softmax.softmax(x.swapaxes(0, 2))
        back = rule(np.ones((2, 3, 4), np.float32).T)
    np.testing.assert_allclose(y, ops.softmax.op.body(x.swapaxes(0, 2))[0], rtol=1e-5)
    np.testing.assert_allclose(back, 0, atol=1e-6)


def test_heads_and_batch():
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 2, 4, 3)).astype(np.float32)
    with scheduled("up"):
        y, rule = KERNELS.attention.attention(q, k, v, None, True)
        *ours, none = rule(np.ones_like(q))
    expected, joint = ops.attention.op.body(q, k, v, None, True)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert none is None
    for d, reference in zip(ours, joint(np.ones_like(q)), strict=False):
        np.testing.assert_allclose(d, reference, rtol=1e-4, atol=1e-5)


def test_long_attention_goes_tile_by_tile(monkeypatch):
    used = []
    monkeypatch.setattr(KERNELS.attention, "flash", lambda *args: used.append(args) or (args[0], None))
    monkeypatch.setattr(KERNELS.attention, "MOST", 4 * 5 - 1)
    q, k = np.ones((4, 2), np.float32), np.ones((5, 2), np.float32)
    KERNELS.attention.attention(q, k, k)
    assert len(used) == 1


def test_the_same_bits_twice():
    x = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    ids = np.array([2, 0, 2, 2, 1, 2, 0, 2, 2])
    tables = []
    for order in ORDERS:
        with scheduled(order):
            tables.append(KERNELS.embedding.scatter_add(x, ids, (3, 3))[0])
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_array_equal(tables[0], tables[2])


# -- what is left to the definition ----------------------------------------------------------------

ONES = np.ones((2, 4), np.float32)
ADAM = {"rates": [0.1], "epsilons": [0.1], "keep": 1.0, "decay": 0.0, "betas": (0.9, 0.99)}


@pytest.mark.parametrize(
    "call",
    [
        lambda k: k.softmax.softmax(ONES, 0),
        lambda k: k.layer_norm.layer_norm(ONES, np.ones(4)),
        lambda k: k.group_norm.group_norm(ONES, 3, ONES[0], ONES[0]),
        lambda k: k.gelu.gelu(ONES, "rough"),
        lambda k: k.cross_entropy.token_losses(ONES, np.zeros(2, int), -100, 0.1),
        lambda k: k.embedding.scatter_add(ONES, np.zeros((2, 4), int), (3,)),
        lambda k: k.embedding.scatter_add(ONES, np.zeros(2, bool), (3, 4)),
        lambda k: k.im2col.convolution(ONES[None], ONES[None], None, Geometry((1,), (0,), (1,), 1)),
        lambda k: k.adam.adam(ONES, ONES, ONES, np.ones(3), **ADAM),
        lambda k: k.attention.attention(ONES, ONES, ONES, np.ones((2, 2), bool)),
        lambda k: k.attention.attention(ONES, ONES, ONES, dropout=0.5),
        lambda k: k.philox.apply_dropout(ONES, 0.5, 0),
        lambda k: k.attention.attention(ONES, ONES[:1], ONES[:1], causal=True),
        lambda k: k.attention.attention(ONES, ONES, ONES[:, :2]),
    ],
)
def test_what_they_do_not_take(call):
    def missing(*args, **kwargs):
        raise AssertionError("launched")

    with pytest.MonkeyPatch.context() as patch:
        for module in vars(KERNELS).values():
            patch.setattr(module, "launch", missing, raising=False)
        assert call(KERNELS) is NotImplemented


def test_an_index_outside_of_the_table():
    with pytest.raises(IndexError, match="index 0 to 3 is outside of the 3 rows of the table"):
        KERNELS.embedding.scatter_add(ONES, np.array([0, 3]), (3, 4))
