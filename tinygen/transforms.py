"""Functions of functions: vjp, grad, jvp, hvp, jacobian, hessian.

Griewank & Walther 2008, ch. 3 and 5. All of them use `vjp`. Arguments may be Tensors, arrays or
numbers; results are Tensors. They compose: when the function uses something that is on the tape (the variable
of another transform, a model's parameters), the results are on the tape too, which costs a replay; under
`no_grad()` they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.backward import backward, cotangent, topological_order
from tinygen.modes import MODE, enable_grad, switch
from tinygen.tape import op
from tinygen.tensor import Tensor
from tinygen.types import TensorLike, ValueAndRules

Pull = Callable[[TensorLike | None], tuple[Tensor, ...]]


def vjp(f: Callable[..., Tensor], *args: Any) -> tuple[Tensor, Pull]:
    """`f(*args)`, and the function that sends a cotangent g of it back: g -> (gᵀ ∂f/∂arg, ...)."""
    check_function(f)
    recording = MODE.get().record
    with enable_grad():
        variables = [variable(x, recording) for x in args]
        value = f(*variables)
    if not isinstance(value, Tensor):
        raise TypeError(f"the function must return a Tensor, it returned {type(value).__name__}")
    leaves = [x for node in topological_order([value]) for x in node.inputs if isinstance(x, Tensor)]
    leaves = leaves or [value]  # no op was recorded: the value is a leaf itself
    ours = {id(v) for v in variables}
    others = recording and any(x.requires_grad and id(x) not in ours for x in leaves)

    def pull(g: TensorLike | None) -> tuple[Tensor, ...]:
        create = others or (isinstance(g, Tensor) and g.requires_grad and MODE.get().record)
        g = cotangent(value, g)
        if isinstance(g, Tensor) != create:
            g = Tensor(g) if create else g._data
        grads = backward([value], [g], variables, retain_graph=True, create_graph=create)
        return tuple(result(grads.get(v.node or v), v) for v in variables)

    return value if others else value.detach(), pull


@op
def alias(x: TensorLike) -> ValueAndRules:
    """The value of `x` under a new name: a derivative by the alias counts no other use of `x`."""
    return x, lambda g: g


alias.op.complex = True  # type: ignore[attr-defined]


def variable(x: TensorLike, recording: bool) -> Tensor:
    """The variable of the differentiation: a new leaf, or an alias of `x` if it is on the tape."""
    if isinstance(x, Tensor):
        return alias(x) if x.requires_grad and recording else Tensor(x._data, requires_grad=True)
    return Tensor(x, requires_grad=True)


def result(gradient: TensorLike | None, x: Tensor) -> Tensor:
    """The gradient as a Tensor that shares no memory; zeros when the function did not use `x`."""
    if isinstance(gradient, Tensor):
        return gradient
    if gradient is None:
        return Tensor(np.zeros_like(x._data))
    return Tensor(np.array(gradient, copy=True, like=x._data))


def value_and_grad(f: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives `f(*args)`, one number, and its gradient by the arguments `argnums`:
    a Tensor, or a tuple of them when `argnums` is a sequence."""
    check_function(f)
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)

    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        def f_of_variables(*variables: Any) -> Tensor:
            inputs = list(args)
            for i, v in zip(numbers, variables, strict=True):
                inputs[i] = v
            return f(*inputs, **kwargs)

        value, pull = vjp(f_of_variables, *(args[i] for i in numbers))
        if value.size != 1:
            raise ValueError(
                f"grad needs a function with one number as its value, got {value.shape}: see jacobian"
            )
        gradients = pull(None)
        return value, gradients[0] if isinstance(argnums, int) else gradients

    return value_and_gradient


def grad(f: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives the gradient of `f`, by the arguments `argnums`."""
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def check_function(f: Any) -> None:
    if not callable(f):
        raise TypeError(
            f"grad, vjp and the like take a function, got {type(f).__name__}: tinygen.grad(f)(x) is the "
            "gradient of f at x. Of a loss that is computed already: loss.backward(), and then x.grad"
        )


def jvp(
    f: Callable[..., Tensor], primals: Sequence[TensorLike], tangents: Sequence[TensorLike]
) -> tuple[Tensor, Tensor]:
    """`f(*primals)` and its derivative along `tangents`, J·t.

    gᵀJt is linear in g, and its gradient by g is J·t: so this is a pull of a pull (Townsend 2017). Raises
    ValueError for a tangent of another shape than its primal's."""
    check_shapes("jvp: tangent", primals, tangents)
    value, pull = vjp(f, *primals)

    def pull_along_tangents(g: Tensor) -> Tensor:
        products = [product(gx, t) for gx, t in zip(pull(g), tangents, strict=True)]
        total: Tensor = sum(products[1:], start=products[0])
        return total

    on_tape = any(isinstance(t, Tensor) and t.requires_grad for t in tangents) and MODE.get().record
    with switch(record=on_tape or value.requires_grad):  # on the tape only if f or a tangent is
        tangent: Tensor = grad(pull_along_tangents)(np.zeros_like(value._data))
    return value, tangent


def check_shapes(what: str, primals: Sequence[TensorLike], tangents: Sequence[TensorLike]) -> None:
    """Raise ValueError for a tangent of the wrong shape: it would broadcast silently and give the
    derivative in another direction."""
    for x, t in zip(primals, tangents, strict=True):
        if np.shape(x) != np.shape(t):
            raise ValueError(f"{what} has the shape {np.shape(t)}, where x has {np.shape(x)}")


def hvp(f: Callable[..., Tensor], x: TensorLike, v: TensorLike) -> Tensor:
    """The Hessian of `f` at `x` times `v`, as the gradient of <∇f, v> (Pearlmutter 1994). Raises ValueError
    when v has not the shape of x."""
    check_shapes("hvp: v", [x], [v])
    result: Tensor = grad(lambda x: product(grad(f)(x), v))(x)
    return result


def product(a: Tensor, b: Any) -> Tensor:
    """Σ a b; of complex numbers Σ Re(ā b), the product of their parts as real vectors."""
    entries: Tensor = np.real(np.conj(a) * b) if a.dtype.kind == "c" else a * b
    return entries.sum()


def jacobian(f: Callable[..., Tensor], argnum: int = 0) -> Callable[..., Tensor]:
    """The function that gives ∂f/∂arg, of shape `f(*args).shape + arg.shape`: one pull per entry of f."""

    def rows(*args: Any) -> Tensor:
        value, pull = vjp(lambda x: f(*args[:argnum], x, *args[argnum + 1 :]), args[argnum])
        units = np.eye(value.size, dtype=value.dtype, like=value._data).reshape(value.size, *value.shape)
        shape = np.shape(args[argnum])
        if value.dtype.kind == "c":
            raise TypeError(
                "jacobian: the function has complex values; take np.real and np.imag of them apart"
            )
        if value.size == 0:
            return Tensor(np.zeros_like(value._data, shape=value.shape + shape))
        stacked: Any = np.stack([pull(unit)[0] for unit in units])
        return Tensor.reshape(stacked, value.shape + shape)

    return rows


def hessian(f: Callable[..., Tensor], argnum: int = 0) -> Callable[..., Tensor]:
    """The function that gives the matrix of second derivatives, of shape `arg.shape + arg.shape`."""
    return jacobian(grad(f, argnum), argnum)
