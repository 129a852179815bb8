"""vjp, grad, jvp, hvp, jacobian, hessian: closed forms, nesting, and what flows in from outside."""

import math

import numpy as np
import pytest
from foreign import Foreign

import tinygen
from tinygen import (
    Tensor,
    checkpoint,
    enable_grad,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    no_grad,
    ops,
    value_and_grad,
    vjp,
)

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 3))
x3 = rng.normal(size=3)


def quadratic(x):
    """xᵀ A x: gradient (A + Aᵀ) x, Hessian A + Aᵀ."""
    return x @ (A @ x)


def rosenbrock(x):
    return (100 * np.square(x[1:] - np.square(x[:-1])) + np.square(1 - x[:-1])).sum()


def rosenbrock_hessian(x):
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 2 - 400 * (x[i + 1] - 3 * x[i] ** 2)
        h[i + 1, i + 1] += 200
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
    return h


# -- closed forms ----------------------------------------------------------------------------------


def test_grad():
    np.testing.assert_allclose(grad(quadratic)(x3).numpy(), (A + A.T) @ x3)
    assert grad(lambda x: x * x * x)(2.0) == 12.0
    assert grad(np.sin)(np.array(0.0)) == 1.0


def test_grad_by_several_arguments():
    def f(a, b, c):
        return (a * b * b).sum() * c

    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    assert grad(f, 1)(a, b, 2.0).numpy().tolist() == [12.0, 32.0]
    da, dc = grad(f, (0, 2))(a, b, 2.0)
    assert da.numpy().tolist() == [18.0, 32.0]
    assert dc == 41.0
    (only,) = grad(f, [2])(a, b, 2.0)
    assert only == 41.0


def test_keyword_arguments_are_passed_on():
    assert grad(lambda x, *, power: x**power)(3.0, power=2) == 6.0


def test_value_and_grad():
    value, gradient = value_and_grad(quadratic)(x3)
    assert value.item() == pytest.approx(x3 @ A @ x3)
    np.testing.assert_allclose(gradient.numpy(), (A + A.T) @ x3)
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_grad_of_what_is_not_one_number():
    with pytest.raises(ValueError, match=r"one number as its value, got \(3,\): see jacobian"):
        grad(lambda x: x * 2)(x3)
    with pytest.raises(TypeError, match="must return a Tensor, it returned float"):
        grad(lambda x: 3.0)(x3)
    with pytest.raises(TypeError, match="must return a Tensor, it returned tuple"):
        grad(lambda x: (x, x))(x3)


def test_vjp():
    value, pull = vjp(lambda x, w: w @ x, x3, A)
    np.testing.assert_allclose(value.numpy(), A @ x3)
    g = np.array([1.0, -2.0, 0.5])
    for _ in range(2):  # it may be pulled again
        dx, dw = pull(g)
        np.testing.assert_allclose(dx.numpy(), g @ A)
        np.testing.assert_allclose(dw.numpy(), np.outer(g, x3))
    np.testing.assert_allclose(pull(2 * g)[0].numpy(), 2 * (g @ A))
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\), the tensor \(3,\)"):
        pull(np.ones(2))


def test_vjp_of_one_number_needs_no_cotangent():
    _, pull = vjp(quadratic, x3)
    np.testing.assert_allclose(pull(None)[0].numpy(), (A + A.T) @ x3)


def test_results_share_nothing():
    _, pull = vjp(lambda a, b: a + b, x3, x3)
    g = np.ones(3)
    da, db = pull(g)
    assert not np.shares_memory(da.data, db.data)
    assert not np.shares_memory(da.data, g)


def test_jvp():
    t = np.array([1.0, 0.5, -1.0])
    value, tangent = jvp(lambda x: np.sin(x) * x[0], [x3], [t])
    np.testing.assert_allclose(value.numpy(), np.sin(x3) * x3[0])
    np.testing.assert_allclose(tangent.numpy(), np.cos(x3) * t * x3[0] + np.sin(x3) * t[0])
    assert not tangent.requires_grad


def test_a_direction_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"jvp: tangent has the shape \(3,\), where x has \(2, 3\)"):
        tinygen.jvp(np.exp, [np.ones((2, 3))], [np.ones(3)])
    with pytest.raises(ValueError, match=r"hvp: v has the shape \(\), where x has \(2,\)"):
        tinygen.hvp(lambda x: (x**3).sum(), np.ones(2), 1.0)


def test_jvp_of_several_arguments():
    t = rng.normal(size=(3, 3))
    value, tangent = jvp(lambda x, w: w @ x, [x3, A], [np.ones(3), t])
    np.testing.assert_allclose(tangent.numpy(), A.sum(axis=1) + t @ x3)
    np.testing.assert_allclose(value.numpy(), A @ x3)


def test_jvp_is_differentiable_by_its_tangents():
    """Also where nothing else is on the tape: d<u, J t>/dt = Jᵀ u."""

    def along(t):
        return (jvp(lambda x: np.sin(x) * x[0], [x3], [t])[1] * u).sum()

    u, t = np.array([1.0, -2.0, 0.5]), Tensor(np.ones(3), requires_grad=True)
    _, pull = vjp(lambda x: np.sin(x) * x[0], x3)
    np.testing.assert_allclose(grad(along)(t).numpy(), pull(u)[0].numpy())
    along(t).backward()
    np.testing.assert_allclose(t.grad, pull(u)[0].numpy())
    with no_grad():
        assert not jvp(np.sin, [x3], [t])[1].requires_grad
    mixed = grad(lambda x: (grad(lambda t: jvp(np.sin, [x], [t])[1].sum())(t) * u).sum())(x3)
    np.testing.assert_allclose(mixed.numpy(), -np.sin(x3) * u)


def test_jvp_agrees_with_differences():
    def f(x):
        return ops.softmax(np.tanh(x) * x)

    t = np.array([0.3, -1.0, 2.0])
    _, tangent = jvp(f, [x3], [t])
    h = 1e-6
    numeric = (f(x3 + h * t) - f(x3 - h * t)) / (2 * h)
    np.testing.assert_allclose(tangent.numpy(), numeric, atol=1e-8)


def test_hvp_and_hessian():
    v = np.array([1.0, -1.0, 2.0])
    np.testing.assert_allclose(hvp(quadratic, x3, v).numpy(), (A + A.T) @ v)
    np.testing.assert_allclose(hessian(quadratic)(x3).numpy(), A + A.T)
    x = rng.normal(size=5)
    np.testing.assert_allclose(hessian(rosenbrock)(x).numpy(), rosenbrock_hessian(x), rtol=1e-12, atol=1e-12)
    v = rng.normal(size=5)
    np.testing.assert_allclose(hvp(rosenbrock, x, v).numpy(), rosenbrock_hessian(x) @ v, rtol=1e-12)


def test_jacobian():
    x = rng.normal(size=(2, 2))
    found = jacobian(lambda x: x @ x)(x).numpy()  # d(xx)_ij / dx_kl = δ_ik x_lj + x_ik δ_jl
    expected = np.einsum("ik,lj->ijkl", np.eye(2), x) + np.einsum("ik,jl->ijkl", x, np.eye(2))
    assert found.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(found, expected)


def test_jacobian_by_another_argument_and_of_numbers():
    np.testing.assert_allclose(jacobian(lambda a, x: a @ x, 1)(A, x3).numpy(), A)
    np.testing.assert_allclose(jacobian(lambda a, x, b: a @ x + b, 1)(A, x3, 1.0).numpy(), A)
    assert jacobian(lambda x: x * x)(3.0) == 6.0
    np.testing.assert_allclose(jacobian(lambda x: x * np.array([1.0, 2.0]))(3.0).numpy(), [1, 2])
    assert jacobian(lambda x: x[:0])(x3).shape == (0, 3)
    assert jacobian(lambda x: x * 1)([1.0, 2.0]).numpy().tolist() == [[1, 0], [0, 1]]


def test_a_hessian_of_shape_by_shape():
    x = rng.normal(size=(2, 3))
    found = hessian(lambda x: (x * x * x).sum())(x).numpy()
    np.testing.assert_allclose(found.reshape(6, 6), np.diag(6 * x.reshape(-1)))


# -- nesting ---------------------------------------------------------------------------------------


def test_derivatives_of_any_order():
    """sin⁽ⁿ⁾ is sin shifted by n quarter turns."""
    f, x = np.sin, np.array(0.7)
    for n in range(6):
        assert f(Tensor(x)).item() == pytest.approx(math.sin(0.7 + n * math.pi / 2))
        f = grad(f)


def test_powers():
    f = lambda x: x**5
    for expected in (5 * 16, 20 * 8, 60 * 4, 120 * 2, 120, 0):
        f = grad(f)
        assert f(2.0).item() == expected


def test_perturbation_confusion():
    """Two derivatives at once: d/dx [x · d/dy (x + y)] is 1, not 2 (Siskind & Pearlmutter 2005)."""
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(3.0) == 12.0  # 2 x², though y is x


def test_the_same_variable_inside_and_outside():
    """The inner derivative is by y alone, also where y and x are one number."""

    def f(x):
        return grad(lambda y: y * y * x)(x) * x  # 2 x³

    assert f(Tensor(2.0)) == 16.0
    assert grad(f)(2.0) == 24.0
    assert grad(grad(f))(2.0) == 24.0


def test_jvp_and_vjp_within_each_other():
    v, u = rng.normal(size=3), rng.normal(size=3)
    forward_over_reverse = jvp(grad(rosenbrock), [x3], [v])[1]
    reverse_over_forward = grad(lambda x: jvp(rosenbrock, [x], [v])[1])(x3)
    np.testing.assert_allclose(forward_over_reverse.numpy(), rosenbrock_hessian(x3) @ v)
    np.testing.assert_allclose(reverse_over_forward.numpy(), rosenbrock_hessian(x3) @ v)
    _, second = jvp(lambda x: jvp(rosenbrock, [x], [v])[1], [x3], [u])
    assert second.item() == pytest.approx(u @ rosenbrock_hessian(x3) @ v)


def test_jacobian_of_jacobian():
    third = jacobian(hessian(lambda x: (x * x * x).sum()))(x3).numpy()
    expected = np.zeros((3, 3, 3))
    expected[range(3), range(3), range(3)] = 6
    np.testing.assert_allclose(third, expected, atol=1e-12)


def test_derivatives_by_the_cotangent():
    """The pull is linear in g, so its derivative by g is the Jacobian's transpose."""
    _, pull = vjp(lambda x: A @ np.sin(x), x3)
    back = jacobian(lambda g: pull(g)[0])(np.zeros(3)).numpy()
    np.testing.assert_allclose(back, (A * np.cos(x3)).T)


def test_through_a_checkpoint():
    def f(x):
        return checkpoint(lambda x: np.tanh(A @ x) * x, x).sum()

    def plain(x):
        return (np.tanh(A @ x) * x).sum()

    np.testing.assert_allclose(grad(f)(x3).numpy(), grad(plain)(x3).numpy(), rtol=1e-14)
    np.testing.assert_allclose(hessian(f)(x3).numpy(), hessian(plain)(x3).numpy(), rtol=1e-12)


def test_losses_of_networks():
    """Hessian-vector products through fused ops agree with differences of gradients."""
    ids = np.array([0, 2, 1])

    def loss(w):
        h = ops.layer_norm(ops.gelu(w @ w), np.ones(3), np.zeros(3))
        h = ops.attention(h, h, w, causal=True)
        return ops.cross_entropy(h, ids)

    v = rng.normal(size=(3, 3))
    h = 1e-5
    numeric = (grad(loss)(A + h * v).numpy() - grad(loss)(A - h * v).numpy()) / (2 * h)
    np.testing.assert_allclose(hvp(loss, A, v).numpy(), numeric, rtol=1e-5, atol=1e-8)


# -- what flows in ---------------------------------------------------------------------------------


def test_parameters_that_flow_in_put_the_results_on_the_tape():
    w = Tensor(A, requires_grad=True)
    value, pull = vjp(lambda x: w @ x, x3)
    assert value.requires_grad
    (dx,) = pull(np.ones(3))
    (dx * np.arange(3.0)).sum().backward()
    np.testing.assert_allclose(w.grad, np.outer(np.ones(3), np.arange(3.0)))


def test_a_parameter_that_is_handed_through_stays_on_the_tape():
    w = Tensor(x3, requires_grad=True)
    value, pull = vjp(lambda x: w, np.array(1.0))
    assert pull(np.ones(3))[0] == 0.0
    (value * 2.0).sum().backward()
    assert w.grad.tolist() == [2.0] * 3


def test_a_tensor_on_the_tape_as_argument():
    x = Tensor(np.array(2.0), requires_grad=True)
    y = x * x  # 4
    slope = grad(lambda v: v * v * v)(y)  # 3 y² = 3 x⁴
    slope.backward()
    assert x.grad == 12 * 8


def test_nothing_flows_in():
    x = Tensor(x3, requires_grad=True)
    assert not grad(quadratic)(x3).requires_grad
    assert not grad(quadratic)(Tensor(x3)).requires_grad
    assert grad(quadratic)(x).requires_grad
    assert x.grad is None  # a transform writes no .grad


def test_the_tape_of_others_is_left_alone():
    """A transform inside somebody's graph frees nothing of it."""
    x = Tensor(x3, requires_grad=True)
    y = np.exp(x)
    grad(lambda v: (v * y).sum())(x3)
    y.sum().backward()
    np.testing.assert_allclose(x.grad, np.exp(x3))


def test_under_no_grad():
    w = Tensor(A, requires_grad=True)
    with no_grad():
        value, gradient = value_and_grad(lambda x: (w @ x).sum())(x3)
        tangent = jvp(lambda x: w @ x, [x3], [x3])[1]
        h = hessian(lambda x: x @ (w @ x))(x3)
        with enable_grad():
            recorded = grad(lambda x: (w @ x).sum())(x3)
    np.testing.assert_allclose(gradient.numpy(), A.sum(axis=0))
    np.testing.assert_allclose(tangent.numpy(), A @ x3)
    np.testing.assert_allclose(h.numpy(), A + A.T)
    assert not any(t.requires_grad for t in (value, gradient, tangent, h))
    assert recorded.requires_grad


def test_no_grad_inside_the_function():
    """A value that is computed under no_grad() within f is a constant, as in a target network."""

    def f(x):
        with no_grad():
            target = x * x
        return (x * target).sum()

    np.testing.assert_allclose(grad(f)(x3).numpy(), x3 * x3)


def test_detached_parts_are_constants():
    np.testing.assert_allclose(grad(lambda x: (x * x.detach()).sum())(x3).numpy(), x3)


def test_arguments_that_are_not_used():
    da, db = grad(lambda a, b: (a * 2).sum(), (0, 1))(x3, A)
    assert db.shape == (3, 3)
    assert not db.numpy().any()
    np.testing.assert_allclose(hessian(lambda x: x.sum())(x3).numpy(), np.zeros((3, 3)))
    assert grad(lambda x: Tensor(3.0))(2.0) == 0.0
    value, tangent = jvp(lambda x: Tensor([1.0, 2.0]), [x3], [x3])
    assert tangent.numpy().tolist() == [0.0, 0.0]
    assert value.numpy().tolist() == [1.0, 2.0]
    assert da.numpy().tolist() == [2.0] * 3


def test_a_function_that_returns_its_argument():
    assert grad(lambda x: x)(5.0) == 1.0
    np.testing.assert_allclose(jacobian(lambda x: x)(x3).numpy(), np.eye(3))


def test_dtypes():
    assert grad(lambda x: x * x)(1.5).dtype == np.float32
    assert grad(lambda x: x * x)(np.array(1.5)).dtype == np.float64
    assert hessian(quadratic)(x3.astype(np.float32)).dtype == np.float32
    assert jvp(np.sin, [np.float32(0.5)], [np.float32(1)])[1].dtype == np.float32
    with pytest.raises(TypeError, match="only floating-point tensors have gradients"):
        grad(lambda x: x * 2)(3)
    with pytest.raises(TypeError, match="only floating-point tensors have gradients"):
        grad(lambda x: x * 2)(Tensor(3))


def test_size_0():
    empty = np.zeros((0, 2))
    assert grad(lambda x: x.sum())(empty).shape == (0, 2)
    assert jacobian(lambda x: x.sum(axis=0))(empty).shape == (2, 0, 2)
    assert hessian(lambda x: (x * x).sum())(empty).shape == (0, 2, 0, 2)


def test_errors_inside_leave_the_switches():
    def failing(x):
        raise KeyError("inside")

    with no_grad():
        with pytest.raises(KeyError):
            grad(failing)(1.0)
        assert not (Tensor([1.0], requires_grad=True) * 2).requires_grad
    assert (Tensor([1.0], requires_grad=True) * 2).requires_grad


def test_newtons_method():
    """Six steps from the usual start to Rosenbrock's minimum, (1, 1)."""
    x = np.array([-1.2, 1.0])
    for _ in range(6):
        x = x - np.linalg.solve(hessian(rosenbrock)(x).numpy(), grad(rosenbrock)(x).numpy())
    np.testing.assert_allclose(x, [1, 1], atol=1e-9)


def test_arrays_that_refuse_numpy():
    """Every transform stays on the device of its arguments."""
    on_cpu = Tensor(np.array([1.0, 2.0]))
    there = Tensor(Foreign(np.array([1.0, 2.0])))

    def cubes(x):
        return (x * x * x).sum()

    for f in (
        grad(cubes),
        grad(lambda x: checkpoint(np.exp, x).sum()),
        lambda x: hvp(cubes, x, x),
        lambda x: jvp(np.sin, [x], [x])[1],
        lambda x: vjp(np.sin, x)[1](x.data)[0],
        jacobian(np.sin),
        hessian(cubes),
        jacobian(lambda x: x[:0]),
        grad(lambda x: (x.detach() * 2.0).sum()),
    ):
        result = f(there)
        assert type(result.data) is Foreign
        np.testing.assert_array_equal(result.numpy(), f(on_cpu).numpy())


def test_torch_agrees():
    torch = pytest.importorskip("torch")

    def f(x):
        return (np.tanh(x @ x) * np.exp(-x)).sum()

    def g(x):
        return (torch.tanh(x @ x) * torch.exp(-x)).sum()

    expected = torch.autograd.functional.hessian(g, torch.tensor(A)).numpy()
    np.testing.assert_allclose(hessian(f)(A).numpy(), expected, rtol=1e-10, atol=1e-12)
    v = rng.normal(size=(3, 3))
    _, expected = torch.autograd.functional.hvp(g, torch.tensor(A), torch.tensor(v))
    np.testing.assert_allclose(tinygen.hvp(f, A, v).numpy(), expected.numpy(), rtol=1e-10, atol=1e-12)
    _, expected = torch.autograd.functional.jvp(lambda x: x @ x, torch.tensor(A), torch.tensor(v))
    np.testing.assert_allclose(jvp(lambda x: x @ x, [A], [v])[1].numpy(), expected.numpy(), rtol=1e-12)
