"""Gradients by reverse-mode automatic differentiation: the chain rule, from the output back to the leaves.

Griewank & Walther 2008, ch. 3 (the reverse sweep). When a number L is computed step by step, its gradient by
a value x is a sum over all values y that were computed directly from x:

    ∂L/∂x = Σ_y (∂y/∂x)ᵀ ∂L/∂y

`backward` visits the nodes of the tape newest first. When it reaches the node of y, it has visited all
nodes that used y, so ∂L/∂y is complete. The rules of the node send it on to the inputs of y, where the
gradients are added. The other functions here are the parts of that loop, smallest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

from tinygen.checks import check_finite, check_graph
from tinygen.modes import MODE, switch
from tinygen.node import PICK, Node, Rule
from tinygen.recompute import Segment
from tinygen.rerun import rerun
from tinygen.summation import sum_over
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike
from tinygen.words import keyword_hint

Value: TypeAlias = Node | Tensor
"""A value of the program: the node that computed it, or a leaf."""

Gradient: TypeAlias = Any
"""An array; a Tensor when gradients are to have gradients; for an op with several outputs a list of them."""

# -- one gradient ----------------------------------------------------------------------------------


def unbroadcast(g: TensorLike, x: Value) -> TensorLike:
    """`g`, the gradient by `x` as a rule returns it, in the shape and dtype of `x`.

    Broadcasting copied the entries of `x`, and each copy is one more use of them: so the gradient is summed
    over the axes that broadcasting added or stretched. If `x` is real and `g` complex, the result is the
    real part. Raises ValueError when no broadcasting leads from the shape of `x` to the shape of `g`."""
    if not hasattr(g, "shape"):
        g = np.asarray(g, dtype=x.dtype)
    if g.shape != x.shape:
        added = len(g.shape) - len(x.shape)  # axes in front
        sizes = zip(g.shape[max(added, 0) :], x.shape, strict=True) if added >= 0 else ()
        stretched = tuple(i + added for i, (m, n) in enumerate(sizes) if m != n)
        if added < 0 or any(x.shape[i - added] != 1 for i in stretched):
            raise ValueError(f"a rule returned a gradient of shape {g.shape} for an input of {x.shape}")
        g = sum_over(g, (*range(added), *stretched)).reshape(x.shape)
    if g.dtype.kind == "c" != x.dtype.kind:
        g = np.real(g)
    return g.astype(x.dtype) if g.dtype != x.dtype else g


def cotangent(y: Tensor, gradient: TensorLike | None) -> Array:
    """The gradient to start from at `y`: `gradient` as an array like `y`, or 1 when `y` is one number.

    Raises ValueError when it has another shape than `y`, or is left out and `y` is not one real number."""
    if gradient is None:
        if y.size != 1:
            raise ValueError(
                f"backward() of a tensor of shape {y.shape} needs the gradient of what comes after it: "
                "reduce it to one number first (.sum(), .mean()), or pass gradient="
            )
        if y.dtype.kind == "c":
            raise ValueError(
                "backward() needs a real number to start from, this one is complex: take np.abs or np.real "
                "of it first, or pass gradient="
            )
        return np.ones_like(y._data)
    if not isinstance(gradient, Tensor):
        gradient = np.asarray(gradient) if not hasattr(gradient, "shape") else gradient
    if gradient.shape != y.shape:
        raise ValueError(f"gradient has shape {gradient.shape}, the tensor {y.shape}: they must agree")
    return gradient.astype(y.dtype)


def conjugate(g: TensorLike) -> TensorLike:
    return np.conj(g) if g.dtype.kind == "c" else g


# -- sums of gradients -----------------------------------------------------------------------------


def accumulate(
    sums: dict[Value, Gradient], terms: Iterable[tuple[Value, Gradient]], owned: set[Value]
) -> None:
    """Add each term (x, gradient along one path) to `sums[x]`.

    Why a sum: x may reach the output on many paths, and by the chain rule each path adds its own term to
    ∂L/∂x. Broadcasting is one case of it, many paths from one entry, which `unbroadcast` sums.

    The first term is borrowed: rules may return one array twice, or a view. A sum is ours, and when `x` is in
    `owned`, the next term is added in place."""
    for x, g in terms:
        before = sums.get(x)
        if before is None:
            sums[x] = g
        elif x in owned:
            before += g  # Tensors have no in-place sum: this is `before = before + g`, on the tape
            sums[x] = before
        else:
            sums[x] = before + g
            owned.add(x)


def put_aside(sums: dict[Value, Gradient], pick: Node, g: Gradient) -> None:
    """Store `g`, the gradient of one output of an op with several outputs, until the loop reaches the op."""
    (node,), i = pick.inputs, pick.kwargs["i"]
    sums.setdefault(node, [None] * len(node.shape))[i] = g


def zeros_for_unused(gradients: list[Gradient], node: Node) -> tuple[Gradient, ...]:
    """The gradients of all outputs of an op with several outputs, with zeros for unused outputs."""
    like = next(g for g in gradients if g is not None)
    return tuple(
        np.zeros_like(like, shape=shape, dtype=dtype) if g is None else g
        for g, shape, dtype in zip(gradients, node.shape, node.dtype, strict=True)
    )


# -- the order -------------------------------------------------------------------------------------


def topological_order(outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes that `outputs` were computed by, each after its inputs: that is oldest first.

    Raises RuntimeError when one was freed by an earlier backward, or when a tensor has been written
    into since it was used; TypeError when a leaf of integers is to have a gradient."""
    seen = {y.node for y in outputs if y.node is not None}
    order = list(seen)
    for node in order:  # the loop below appends to it
        for x in node.inputs:
            if type(x) is Node and x not in seen:
                seen.add(x)
                order.append(x)
    order.sort(key=attrgetter("seq"))
    check_graph(order)
    return order


def paths_to(order: Sequence[Node], wrt: Sequence[Tensor]) -> set[Value]:
    """`wrt`, and those nodes in `order` through which a gradient can get to one of them."""
    on_path: set[Value] = {t.node or t for t in wrt}
    for node in order:
        if any((type(x) is Node or isinstance(x, Tensor)) and x in on_path for x in node.inputs):
            on_path.add(node)
    return on_path


# -- the rules -------------------------------------------------------------------------------------


def replay(order: Sequence[Node]) -> dict[Node, Sequence[Rule]]:
    """The rules of each node, from running the program once more on Tensors, for gradients of gradients:
    the gradients that such rules return are on the tape, too.

    An inner tensor that still exists is used as it is, so that one can differentiate with respect to it;
    the others are computed again."""
    rules: dict[Node, Sequence[Rule]] = {}

    def run(node: Node, inputs: list[Any]) -> Any:
        value, *rules[node] = node.op.body(*inputs, **node.kwargs)
        held = None if node.out is None else node.out()
        return value if held is None else held

    with switch(record=True, segment=None):
        rerun(order, run)
    return rules


def input_gradients(
    node: Node, rules: Any, g: Gradient, on_path: set[Value] | None, anomaly: bool
) -> Iterator[tuple[Value, Gradient]]:
    """The chain rule at one node: its rules turn `g`, the gradient of its value, into a term (x, gradient)
    for each input x that wants one, in the shape and dtype of x."""
    if type(g) is list:
        g = zeros_for_unused(g, node)
    if isinstance(rules, Segment):
        rules = rules.rules_of(node)
    try:
        joint = rules[0](g) if len(rules) == 1 else None  # one rule for all inputs
        for i, x in enumerate(node.inputs):
            if not getattr(x, "requires_grad", False) or (on_path is not None and x not in on_path):
                continue
            if joint is None:
                rule = rules[i] if i < len(rules) else None
                gx = None if rule is None else rule(g)
            else:
                gx = joint[i] if type(joint) is tuple else joint if i == 0 else None
            if gx is None:
                raise TypeError(
                    f"`{node.name}` has no gradient for its argument {i}: detach() it first, or let the op "
                    "return one more rule"
                )
            like = x if type(x) is Node else x._data
            if getattr(gx, "shape", None) != like.shape or gx.dtype is not like.dtype:
                gx = unbroadcast(gx, like)
            if anomaly:
                check_finite(gx, f"the gradient of `{node.name}` for input {i}", node.where)
            yield x, gx
    except Exception as error:
        error.add_note(f"in the gradient of `{node.name}`, called at {node.where}")
        raise


# -- the loop --------------------------------------------------------------------------------------


class Watch:
    """Sees the gradients of leaves during the walk of `y.backward()`, within `switch(watch=self)`: a leaf's
    sum is complete after the oldest node that uses the leaf, which may be long before the end. So one can
    send it to other processes while the walk goes on (`tinygen.parallel.average_gradients`)."""

    share = 1.0  # what the walk starts from is multiplied by it: the weight of this loss in a sum of losses

    def complete(self, leaf: Tensor, g: Array) -> None:
        """`g` is the gradient of the leaf by this walk. It may share memory, and must not be changed."""
        raise NotImplementedError

    def visits(self, order: Sequence[Node], sums: dict[Value, Gradient]) -> Iterator[Node]:
        """The nodes, newest first; after a node, its leaves that no older node uses are complete."""
        for y, g in sums.items():
            sums[y] = g * np.asarray(self.share, g.dtype, like=g)
        oldest: dict[Tensor, Node] = {}
        for node in order:
            for x in node.inputs:
                if isinstance(x, Tensor) and x.requires_grad:
                    oldest.setdefault(x, node)
        leaves: dict[Node, list[Tensor]] = {}
        for leaf, node in oldest.items():
            leaves.setdefault(node, []).append(leaf)
        for node in reversed(order):
            yield node
            for leaf in leaves.get(node, ()):
                if leaf in sums:
                    self.complete(leaf, sums[leaf])


def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Gradient],
    wrt: Sequence[Tensor] | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    watch: Watch | None = None,
) -> dict[Value, Gradient]:
    """The gradient of the sum of <output, gradient> with respect to every leaf, or to each of `wrt`.

    Returns {leaf, or node of an inner tensor: gradient}, without those on which the outputs do not depend.
    With `create_graph` the gradients are Tensors on the tape, else arrays that may share memory. A `watch`
    sees each leaf's gradient as soon as its sum is complete.

    For a complex x + iy the gradient of a real L is ∂L/∂x + i ∂L/∂y, along which L grows. Between the rules
    flows its conjugate g, for which dL = Re(g dz): so the rule of an analytic op is the same for complex
    numbers as for real ones, and conjugates are taken only here, where gradients come in and go out."""
    order = topological_order(outputs)
    on_path = None if wrt is None else paths_to(order, wrt)
    wanted = () if wrt is None else {t.node for t in wrt if t.node is not None}
    replayed = replay(order) if create_graph else None
    anomaly = MODE.get().anomaly
    sums: dict[Value, Gradient] = {}
    owned: set[Value] = set()
    accumulate(sums, [(y.node or y, conjugate(g)) for y, g in zip(outputs, gradients, strict=True)], owned)
    with switch(record=create_graph, segment=None):
        newest_first = reversed(order) if watch is None else watch.visits(order, sums)
        for node in newest_first:  # all that used the node's value has been visited,
            g = sums.get(node) if node in wanted else sums.pop(node, None)  # so its gradient is complete
            if g is None:
                continue
            if node.op is PICK:
                put_aside(sums, node, g)
                continue
            rules: Any = node.rules if replayed is None else replayed[node]
            terms = input_gradients(node, rules, g, on_path, anomaly)  # the chain rule,
            accumulate(sums, terms, owned)  # and the gradients of all uses of a value add up
            if not (retain_graph or create_graph):
                node.rules, node.inputs = None, ()
        return {x: conjugate(g) for x, g in sums.items()}


def backward_into_leaves(
    y: Tensor, gradient: TensorLike | None = None, *, retain_graph: bool = False, **words: Any
) -> None:
    """`y.backward()`: add the gradient of <y, gradient> to `.grad` of every leaf that requires grad.

    `gradient` has the shape of `y`; it may be left out for one number. The graph is freed on the way
    unless `retain_graph`. Each `.grad` is a contiguous, writeable array of the leaf's shape and dtype that
    shares no memory. When anything fails, no `.grad` has been touched."""
    if words:
        text = f"backward() got an unexpected keyword argument {next(iter(words))!r}"
        raise TypeError(text + keyword_hint(text))
    if not y.requires_grad:
        raise RuntimeError(
            "this tensor does not depend on anything that requires grad: make the parameters with "
            "requires_grad=True, and compute outside of no_grad()"
        )
    gradient = gradient._data if isinstance(gradient, Tensor) else gradient
    start, watch = cotangent(y, gradient), MODE.get().watch
    grads: dict[Any, Gradient] = backward([y], [start], retain_graph=retain_graph, watch=watch)
    given: set[int] = set()
    for leaf, g in grads.items():
        g = g if hasattr(g, "__array_function__") else np.asarray(g)
        if leaf.grad is None and (g.base is not None or id(g) in given or not g.flags.c_contiguous):
            g = g.copy(order="C")
        given.add(id(g))
        add_to_grad(leaf, g)


def add_to_grad(leaf: Tensor, g: Array) -> None:
    """Here the sum over all paths to a leaf is complete, and nothing has been written yet. A `Watch` sees
    this sum earlier, while the walk still goes on."""
    if leaf.grad is None:
        leaf.grad = g
    else:
        leaf.grad += g


Tensor.backward = backward_into_leaves
