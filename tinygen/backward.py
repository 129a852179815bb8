"""Walking the tape: gradients, and their replay for higher orders.

Griewank & Walther 2008, ch. 3 (the reverse sweep).

`backward` goes through the nodes newest first. What arrives at a node is complete, since whatever
used its value is newer; the node's rules send it on, and the node is freed. To differentiate a
gradient, `replay` runs the recorded program once more on Tensors: the same op bodies, now recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tinygen.checks import check_finite
from tinygen.memory import last_write
from tinygen.modes import MODE, switch
from tinygen.recompute import Segment
from tinygen.summation import sum_over
from tinygen.tape import PICK, Node, Rule
from tinygen.tensor import Array, Tensor
from tinygen.words import keyword_hint


def backward_into_leaves(
    y: Tensor, gradient: Any = None, *, retain_graph: bool = False, **words: Any
) -> None:
    """`y.backward()`: add the gradient of <y, gradient> to `.grad` of every leaf that requires grad.

    `gradient` has the shape of `y`; it may be left out for one number. The graph is freed on the way
    unless `retain_graph`. What is written is an array of the leaf's shape and dtype, contiguous, writeable
    and shared with nothing else. When anything fails, no `.grad` has been touched."""
    if words:
        text = f"backward() got an unexpected keyword argument {next(iter(words))!r}"
        raise TypeError(text + keyword_hint(text))
    if not y.requires_grad:
        raise RuntimeError(
            "this tensor does not depend on anything that requires grad: make the parameters with "
            "requires_grad=True, and compute outside of no_grad()"
        )
    gradient = gradient._data if isinstance(gradient, Tensor) else gradient
    grads = backward([y], [cotangent(y, gradient)], retain_graph=retain_graph)
    given: set[int] = set()
    for leaf, g in grads.items():
        if leaf.grad is not None:
            leaf.grad += g
            continue
        g = g if hasattr(g, "__array_function__") else np.asarray(g)
        if g.base is not None or id(g) in given or not g.flags.c_contiguous:
            g = g.copy(order="C")
        given.add(id(g))
        leaf.grad = g


Tensor.backward = backward_into_leaves  # type: ignore[assignment, method-assign]


def cotangent(y: Tensor, gradient: Any) -> Array:
    """`gradient` as an array like `y`; ones for a single number. Raises ValueError on a wrong shape."""
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


def topological_order(outputs: Sequence[Tensor]) -> list[Node]:
    """The nodes that `outputs` were computed by, oldest first.

    Raises RuntimeError when one was freed by an earlier backward, or when a tensor has been written
    into since it was used; TypeError when a leaf of integers is to have a gradient."""
    seen = {y.node for y in outputs if y.node is not None}
    order = list(seen)
    written: dict[Tensor, int] = {}  # when each leaf and each constant was, last
    for node in order:  # which grows meanwhile
        if node.rules is None:
            raise RuntimeError(
                f"backward went through `{node.op.name}` ({node.where}) before, and that freed the graph. "
                "Compute the value again, or pass retain_graph=True the first time"
            )
        for x in node.inputs:
            if type(x) is Node:
                if x not in seen:
                    seen.add(x)
                    order.append(x)
            elif isinstance(x, Tensor):
                last = written.get(x)
                if last is None:
                    last = written[x] = max(x.version, last_write(x._data))
                    if x.requires_grad and x.dtype.kind not in "fc":
                        raise TypeError(
                            f"a leaf of `{node.op.name}` ({node.where}) is of {x.dtype}, which has no "
                            "gradient, and was told to require one: make it with dtype=np.float32"
                        )
                if last > node.seq:
                    raise RuntimeError(
                        f"an input of `{node.op.name}` ({node.where}) was written into between forward and "
                        "backward: call backward() before the update, or compute the value again"
                    )
        if node.shared and any(memory.written > node.seq for memory in node.shared):
            raise RuntimeError(
                f"the value of `{node.op.name}` ({node.where}) was written into between forward and "
                "backward, by way of a detached tensor or a view, which share its memory: write into a copy"
            )
    order.sort(key=attrgetter("seq"))
    return order


def backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Any],
    wrt: Sequence[Tensor] | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> dict[Any, Any]:
    """The gradient of the sum of <output, gradient> with respect to every leaf, or to each of `wrt`.

    Returns {leaf, or node of an inner tensor: gradient}; what the outputs do not depend on is absent.
    With `create_graph` the gradients are Tensors on the tape, else arrays that may share memory.

    For a complex x + iy the gradient of a real L is ∂L/∂x + i ∂L/∂y, along which L grows. Between the rules
    flows its conjugate g, for which dL = Re(g dz): so the rule of an analytic op is the same for complex
    numbers as for real ones, and conjugates are taken only here, where gradients come in and go out."""
    order = topological_order(outputs)
    on_path = None if wrt is None else paths_to(order, wrt)
    keep = () if wrt is None else {t.node for t in wrt if t.node is not None}
    replayed = replay(order) if create_graph else None
    checked = MODE.get().anomaly
    grads: dict[Any, Any] = {}
    owned: set[Any] = set()  # whose gradient is a sum allocated here: it may be added into

    for y, g in zip(outputs, gradients, strict=True):
        start = y.node or y
        g = np.conj(g) if g.dtype.kind == "c" else g
        grads[start] = grads[start] + g if start in grads else g
    with switch(record=create_graph, segment=None):
        for node in reversed(order):
            g = grads.get(node) if node in keep else grads.pop(node, None)
            if g is None:
                continue
            if node.op is PICK:
                (parent,), i = node.inputs, node.kwargs["i"]
                grads.setdefault(parent, [None] * len(parent.shape))[i] = g
                continue
            if type(g) is list:
                g = zeros_for_unused(g, node)
            if isinstance(node.rules, Segment):
                node.rules.rebuild()
            rules: Any = node.rules if replayed is None else replayed[node]
            try:
                together = rules[0](g) if len(rules) == 1 else None
                for i, x in enumerate(node.inputs):
                    if not (type(x) is Node or (isinstance(x, Tensor) and x.requires_grad)):
                        continue
                    if on_path is not None and x not in on_path:
                        continue
                    if together is None:
                        rule = rules[i] if i < len(rules) else None
                        gx = None if rule is None else rule(g)
                    else:
                        gx = together[i] if type(together) is tuple else together if i == 0 else None
                    if gx is None:
                        name = node.op.name
                        raise TypeError(
                            f"`{name}` has no gradient for its argument {i}: detach() it first, or let "
                            "the op return one more rule"
                        )
                    if getattr(gx, "shape", None) != x.shape or gx.dtype is not x.dtype:
                        gx = unbroadcast(gx, x)
                    if checked:
                        check_finite(gx, f"the gradient of `{node.op.name}` for input {i}", node.where)
                    before = grads.get(x)
                    if before is None:
                        grads[x] = gx  # borrowed: rules may return one array twice, or a view
                    elif x in owned:
                        before += gx
                        grads[x] = before
                    else:
                        grads[x] = before + gx
                        if not create_graph:
                            owned.add(x)
            except Exception as error:
                error.add_note(f"in the gradient of `{node.op.name}`, called at {node.where}")
                raise
            if not (retain_graph or create_graph):
                node.rules, node.inputs = None, ()
        for x, g in grads.items():
            if g.dtype.kind == "c":
                grads[x] = np.conj(g)
    return grads


def unbroadcast(gx: Any, x: Node | Tensor) -> Any:
    """`gx` in the shape and dtype of `x`: summed over the axes along which `x` was broadcast; its real part
    for a real x that came together with complex numbers."""
    if not hasattr(gx, "shape"):
        gx = np.asarray(gx, dtype=x.dtype)
    if gx.shape != x.shape:
        extra = len(gx.shape) - len(x.shape)
        sizes = zip(gx.shape[max(extra, 0) :], x.shape, strict=True) if extra >= 0 else ()
        axes = tuple(i + extra for i, (m, n) in enumerate(sizes) if m != n)
        if extra < 0 or any(x.shape[i - extra] != 1 for i in axes):
            raise ValueError(f"a rule returned a gradient of shape {gx.shape} for an input of {x.shape}")
        gx = sum_over(gx, (*range(extra), *axes)).reshape(x.shape)
    if gx.dtype.kind == "c" != x.dtype.kind:
        gx = np.real(gx)
    return gx.astype(x.dtype) if gx.dtype != x.dtype else gx


def zeros_for_unused(gradients: list[Any], node: Node) -> tuple[Any, ...]:
    """The gradients of a tuple's elements, zeros for those that nobody used."""
    like = next(g for g in gradients if g is not None)
    return tuple(
        np.zeros_like(like, shape=shape, dtype=dtype) if g is None else g
        for g, shape, dtype in zip(gradients, node.shape, node.dtype, strict=True)
    )


def paths_to(order: Sequence[Node], wrt: Sequence[Tensor]) -> set[Any]:
    """Those of `wrt` and of the nodes in `order` through which a gradient can get to `wrt`."""
    on_path: set[Any] = {t.node or t for t in wrt}
    for node in order:
        if any((type(x) is Node or isinstance(x, Tensor)) and x in on_path for x in node.inputs):
            on_path.add(node)
    return on_path


def replay(order: Sequence[Node]) -> dict[Node, Sequence[Rule]]:
    """The rules of each node, from running its op's definition once more on Tensors.

    An inner tensor that somebody still holds is used as it is, so that one can differentiate with
    respect to it; one that is gone is computed again."""
    values: dict[Node, Any] = {}
    rules: dict[Node, Sequence[Rule]] = {}
    with switch(record=True, segment=None):
        for node in order:
            if node.op is PICK:
                value = values[node.inputs[0]][node.kwargs["i"]]
            else:
                inputs = [values[x] if type(x) is Node else x for x in node.inputs]
                value, *rules[node] = node.op.body(*inputs, **node.kwargs)
            held = None if node.out is None else node.out()
            values[node] = value if held is None else held
    return rules
