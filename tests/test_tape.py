"""Ops: their definition, their record on the tape, their errors; the switches."""

import asyncio
import inspect
import threading

import numpy as np
import pytest
from foreign import Foreign

import tinygen
from tinygen import (
    AnomalyError,
    Tensor,
    anomaly,
    checkpoint,
    enable_grad,
    gradcheck,
    implements,
    no_grad,
    op,
    ops,
)
from tinygen.modes import MODE, Mode


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def here(offset=0):
    """The place of the line that calls this, or `offset` lines on, as error messages write it."""
    return f"{__file__}:{inspect.currentframe().f_back.f_lineno + offset}"


@pytest.fixture(autouse=True)
def _no_switch_is_left_on():
    yield
    assert MODE.get() == Mode()


# -- an op of one's own ----------------------------------------------------------------------------


@op
def swish(x, beta):
    s = ops.sigmoid(beta * x)
    y = x * s
    return y, lambda g: g * (s + beta * y * (1 - s)), lambda g: g * x * y * (1 - s)


def test_a_users_op_in_a_few_lines():
    assert gradcheck(swish, np.linspace(-2, 2, 6).reshape(2, 3), np.array([0.5, 1.0, 2.0]), order=2)


def test_it_computes_on_arrays_and_records_on_tensors():
    x = np.array([1.0, 2.0])
    assert isinstance(swish(x, 1.0), np.ndarray)
    y = swish(Tensor(x), 1.0)
    assert not y.requires_grad
    y = swish(Tensor(x), leaf())
    assert y.requires_grad
    assert y.node.op.name == "swish"


def test_it_keeps_its_name_and_docstring():
    assert ops.softmax.__name__ == "softmax"
    assert "The maximum is subtracted first" in ops.softmax.__doc__
    assert list(inspect.signature(ops.softmax).parameters) == ["x", "axis"]


def test_a_joint_rule():
    @op
    def rotated(x, y, angle):
        c, s = np.cos(angle), np.sin(angle)
        return c * x - s * y, lambda g: (c * g, -s * g, (g * (-s * x - c * y)).sum())

    assert gradcheck(rotated, np.arange(3.0), np.ones(3), np.array(0.3), order=2)
    y, angle = leaf(3), leaf()
    rotated(np.zeros(3), y, angle).sum().backward()  # the first of its gradients is asked by nobody
    np.testing.assert_allclose(y.grad, -np.sin(angle.numpy()) * np.ones(3))


def test_rules_that_nobody_will_ask_are_let_go():
    """With what they have closed over."""
    x, weight = Tensor(np.ones((2, 3))), leaf(4, 3)
    assert [rule is None for rule in (x @ weight.T).node.rules] == [True, False]
    y = ops.linear(leaf(2, 3), weight)  # without bias
    assert [rule is None for rule in y.node.rules] == [False, False, True]


def test_several_outputs():
    @op
    def polar(x, y):
        r = np.sqrt(x * x + y * y)

        def rule(gs):
            gr, gc = gs
            return gr * x / r + gc * y * y / (r * r * r), gr * y / r - gc * x * y / (r * r * r)

        return (r, x / r), rule

    assert gradcheck(polar, np.array([1.0, -2.0]), np.array([0.5, 1.5]), order=2)
    r, cosine = polar(np.array(3.0), np.array(4.0))
    assert (r, cosine) == (5.0, 0.6)


def test_tensors_given_by_name():
    x, b = leaf(2, 3), leaf(3)
    by_name = ops.layer_norm(x, bias=b, weight=Tensor(np.ones(3)))
    np.testing.assert_array_equal(by_name.data, ops.layer_norm(x, np.ones(3), b).data)
    by_name.sum().backward()
    assert b.grad.tolist() == [2, 2, 2]


def test_a_tensor_given_by_name_after_one_left_out():
    @op
    def line(x, slope=2.0, shift=None):
        return slope * x + shift, lambda g: g * slope, None, lambda g: g

    x, shift = leaf(3), leaf(3)
    line(x, shift=shift).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert shift.grad.tolist() == [1, 1, 1]


def test_a_tensor_for_a_keyword_only_parameter_is_refused():
    @op
    def scaled(x, *, by):
        return x * by, lambda g: g * by

    assert scaled(leaf(2), by=2.0).requires_grad
    with pytest.raises(TypeError, match="scaled: by can be given by name only, so it cannot be a Tensor"):
        scaled(leaf(2), by=leaf())


def test_numpys_function_means_the_op(monkeypatch):
    monkeypatch.delitem(tinygen.tensor.IMPLEMENTS, np.hypot)
    with pytest.raises(TypeError, match=r"np\.hypot has no gradient rule"):
        np.hypot(leaf(2), 1.0)

    @implements(np.hypot)
    @op
    def hypot(x, y):
        r = np.sqrt(x * x + y * y)
        return r, lambda g: g * x / r, lambda g: g * y / r

    assert gradcheck(np.hypot, np.array([1.0, -2.0]), np.array([0.5]), order=2)


# -- dtypes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * np.float64(2),
        lambda x: x * np.sqrt(2),
        lambda x: x * np.array(2.0),
        lambda x: np.array([1.0, 2.0]) * x,
        lambda x: x / np.array([1, 2]),
        lambda x: x / Tensor([1, 2]),
        lambda x: x + 1,
        lambda x: x**2.5,
        lambda x: np.where([True, False], x, 0.1),
        lambda x: x.mean(),
        lambda x: np.concatenate([x, np.zeros(2)]),
        lambda x: ops.linear(x, np.ones((1, 2))),
    ],
)
def test_float32_stays_whatever_it_meets(compute):
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = compute(x)
    assert y.dtype == np.float32
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_float64_wins_among_tensors():
    assert (leaf(2) * leaf(2, dtype=np.float32)).dtype == np.float64
    assert (leaf(2, dtype=np.float32) * leaf(2)).dtype == np.float64


def test_ints_and_bools():
    ints = Tensor([1, 2, 4])
    assert (ints + 1).dtype == np.int64
    assert ints.sum().dtype == np.int64
    assert ints.mean().dtype == np.float32
    assert (ints / 2).dtype == np.float32
    assert (ints * 0.5).dtype == (ints * np.float64(0.5)).dtype == np.float32
    assert (ints * np.ones(3)).dtype == (np.ones(()) + ints).dtype == np.float64  # no float Tensor's to keep
    assert (ints * np.ones(3, np.float16)).dtype == np.float16
    assert (ints > 1).dtype == bool
    assert ((ints > 1) & ~(ints > 2)).numpy().tolist() == [False, True, False]
    assert not (ints * 2).requires_grad


def test_a_gradient_passes_ints_by():
    x, ints = leaf(3), Tensor([1, 2, 4])
    (x * ints + x[ints - 1 > 0].sum()).sum().backward()
    assert x.grad.tolist() == [1.0, 5.0, 7.0]


def test_casting_to_ints_leaves_the_tape():
    x = leaf(3)
    assert not x.astype(np.int64).requires_grad
    assert not x.astype(bool).requires_grad
    halves = x.astype(np.float16)
    assert halves.requires_grad
    (halves * 2).sum().backward()
    assert x.grad.dtype == np.float64


def test_a_dtype_that_is_asked_for_is_kept():
    assert Tensor([1.0]).astype(np.float64).dtype == np.float64


# -- the switches ----------------------------------------------------------------------------------


def test_no_grad():
    x = leaf(2)
    with no_grad():
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_as_a_decorator():
    @no_grad()
    def f(x):
        return x * 2

    x = leaf(2)
    assert not f(x).requires_grad
    assert not f(x).requires_grad  # the second call too
    assert (x * 2).requires_grad


@pytest.mark.parametrize("context", [no_grad, enable_grad, anomaly])
def test_an_error_inside_restores_the_switch(context):
    with pytest.raises(ValueError, match="matmul"), context():
        leaf(2, 3) @ leaf(2, 3)
    assert MODE.get() == Mode()


def test_an_error_inside_a_checkpoint_restores_the_switch():
    with pytest.raises(ValueError, match="matmul"):
        checkpoint(lambda x: x @ x, leaf(2, 3))
    assert MODE.get() == Mode()


def test_threads_and_tasks_have_their_own():
    records = []

    def thread():
        records.append(MODE.get().record)

    async def task():
        with no_grad():
            await asyncio.sleep(0)
            records.append(MODE.get().record)

    async def other():
        records.append(MODE.get().record)
        await asyncio.sleep(0)
        records.append(MODE.get().record)

    async def both():
        await asyncio.gather(task(), other())

    with no_grad():
        t = threading.Thread(target=thread)
        t.start()
        t.join()
    assert records == [True]
    records.clear()
    asyncio.run(both())
    assert sorted(records) == [False, True, True]


# -- anomaly ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_forward_names_op_index_and_line():
    x = Tensor(np.array([[1.0, 2.0], [-1.0, 3.0]]), requires_grad=True)
    with anomaly(), pytest.raises(AnomalyError) as caught:
        np.log(x) * 2
    line = here(-1)
    assert str(caught.value) == f"NaN at index (1, 0) in the value of log(float64 (2, 2)), called at {line}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_forward_finds_infinities_constants_and_numbers():
    with anomaly():
        with pytest.raises(AnomalyError, match=r"infinity at index \(\) in the value of exp\(float32 \(\)\)"):
            np.exp(Tensor(1000.0))
        with pytest.raises(AnomalyError, match=r"infinity at index \(1,\) in the value of divide"):
            np.split(1.0 / Tensor([1.0, 0.0]), 2)
        with pytest.raises(AnomalyError, match=r"NaN at index \(0,\) in the value of split"):
            np.split(Tensor(np.array([1.0, np.nan])), 2)
        with pytest.raises(AnomalyError, match=r"NaN at index \(1,\)"):  # the first of several
            np.log(Tensor([1.0, -1.0, -1.0]))
        assert len(np.split(Tensor([1.0, 2.0]), 2)) == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_backward_names_the_forward_line():
    x = Tensor(np.array([4.0, 0.0]), requires_grad=True)
    with anomaly():
        roots = np.sqrt(x)
        line = here(-1)
        loss = (roots * 3.0).sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    assert (
        str(caught.value) == f"infinity at index (1,) in the gradient of `sqrt` for input 0, called at {line}"
    )
    assert x.grad is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_names_the_line_within_a_long_statement():
    x = Tensor(np.array([1.0, -1.0]))
    first = here()
    with anomaly(), pytest.raises(AnomalyError) as caught:
        (
            np.exp(x)
            + np.log(x)
            + 1.0
        )  # fmt: skip
    line = int(first.rsplit(":", 1)[1]) + 4
    assert str(caught.value).endswith(f"{__file__}:{line}")
    first = here()
    with anomaly(), pytest.raises(AnomalyError) as caught:
        (
            x
            / 0.0
        )  # fmt: skip
    line = int(first.rsplit(":", 1)[1]) + 3  # where the operator's left side stands
    assert str(caught.value).endswith(f"{__file__}:{line}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_names_the_nearest_line_outside_the_engine():
    """It names the line that calls the op, not a caller of that line."""

    def rooted(x):
        return ops.rsqrt(x), here()

    with anomaly(), pytest.raises(AnomalyError) as caught:
        rooted(Tensor([0.0]))
    assert str(caught.value).endswith(rooted(Tensor([1.0]))[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_names_the_users_line_for_ops_made_of_ops():
    x = Tensor(np.zeros(3), requires_grad=True)
    with anomaly():
        y = np.std(x)
        line = here(-1)
        with pytest.raises(AnomalyError) as caught:
            y.backward()
    assert f"the gradient of `sqrt` for input 0, called at {line}" in str(caught.value)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_anomaly_in_the_second_order():
    x = Tensor(np.array([0.0]), requires_grad=True)
    slope = tinygen.grad(lambda x: (x**1.5).sum())(x)
    line = here(-1)
    with anomaly(), pytest.raises(AnomalyError, match="infinity at index") as caught:
        slope.backward(np.ones(1))
    assert "in the gradient of `power` for input 0" in str(caught.value)
    assert f"called at {line}" in str(caught.value)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_without_anomaly_nothing_is_checked():
    x = Tensor(np.array([0.0]), requires_grad=True)
    np.sqrt(x).sum().backward()
    assert np.isinf(x.grad[0])
    with anomaly():
        (Tensor([1.0], requires_grad=True) * 2).sum().backward()


# -- errors ----------------------------------------------------------------------------------------

A, B = Tensor(np.ones((2, 3))), Tensor(np.ones((4, 5)), requires_grad=True)
SHAPES = {
    "matmul": lambda: A @ B,
    "add": lambda: A + B,
    "multiply": lambda: B * A.data,
    "maximum": lambda: np.maximum(A, B),
    "linear": lambda: ops.linear(A, B),
    "concatenate": lambda: np.concatenate([A, B]),
    "where": lambda: np.where(np.ones((7,), bool), A, B),
    "layer_norm": lambda: ops.layer_norm(A, B),
    "attention": lambda: ops.attention(A, B, B),
    "less": lambda: A < B,
}


@pytest.mark.parametrize("name", SHAPES)
def test_errors_of_shapes_name_the_op_and_both_shapes(name):
    with pytest.raises(ValueError, match=rf"^{name}\(") as caught:
        SHAPES[name]()
    assert "float64 (2, 3)" in str(caught.value)
    assert "float64 (4, 5)" in str(caught.value)
    assert caught.value.__suppress_context__  # one traceback, which goes on into the body of the op
    assert caught.value.__cause__ is None
    assert caught.traceback[-1].path.name != "tape.py" or name == "less"


def test_other_errors_keep_their_type_and_get_a_note():
    with pytest.raises(np.exceptions.AxisError) as caught:
        np.sum(A, axis=7)
    assert caught.value.__notes__ == ["in sum(float64 (2, 3), 7)"]
    assert caught.value.__cause__ is None

    @op
    def stubborn(x):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room") as caught:
        stubborn(A)
    assert caught.value.__notes__ == ["in stubborn(float64 (2, 3))"]


def test_index_and_type_errors():
    with pytest.raises(IndexError, match=r"^getitem\(float64 \(2, 3\), 5\): index 5 is out of bounds"):
        A[5]
    with pytest.raises(TypeError, match=r"^embedding\(.*\): embedding ids must be integers, got float64"):
        ops.embedding(A, A)
    with pytest.raises(TypeError, match=r"^exp\(.*\): .*unexpected keyword argument 'where': .* np\.where\("):
        np.exp(A, where=np.ones((2, 3), bool))


def test_dtypes_among_the_arguments():
    """NumPy's third argument of sum is dtype."""
    for dtype in (np.float32, np.dtype(np.float32)):
        assert np.sum(A, 0, dtype).dtype == np.float32
        with pytest.raises(TypeError, match=r"^tril\(float64 \(2, 3\), .*float32"):
            np.tril(A, dtype)


def test_long_arguments_are_cut():
    shape = tuple(range(1, 40))
    with pytest.raises(ValueError, match="reshape") as caught:
        ops.reshape(A, shape)
    assert str(caught.value).startswith(f"reshape(float64 (2, 3), {str(shape)[:40]}): ")


def test_mixed_devices():
    cuda = Tensor(Foreign(np.ones((2, 3))), requires_grad=True)
    for mixed in (
        lambda: A + cuda,
        lambda: cuda * A,
        lambda: cuda @ A.T,
        lambda: np.where(A.data > 0, cuda, 0.0),
    ):
        with pytest.raises(TypeError, match="arrays on cpu and on cuda do not mix; move one with"):
            mixed()
    with pytest.raises(TypeError, match=r"^add\(float64 \(2, 3\), float64 \(2, 3\)\)"):
        cuda + A


def test_an_error_in_a_body_records_nothing():
    x = leaf(2, 3)
    with pytest.raises(ValueError, match="matmul"):
        x @ x
    assert x.node is None
    assert x.version == 0
    (x * 1).sum().backward()
    assert x.grad.tolist() == [[1, 1, 1]] * 2


def test_a_node_knows_where_it_was_made():
    y = leaf(2) * 2
    assert y.node.where == here(-1)
    z = np.split(leaf(4), 2)[1]
    assert z.node.where == here(-1)
    assert ops.std(leaf(3)).node.where == here()
