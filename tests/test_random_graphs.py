"""Random graphs: random programs, run by tinygen and by the naive engine of `naive.py`.

Every value and every gradient must agree; a failure comes with the program that shows it, and Hypothesis
shrinks it to a short one. In the programs are: broadcasting, views, repeated indices, axes of size 0, odd
strides, ops with several outputs, a tensor twice in an op and often in a graph, tensors that are dropped,
no_grad and detach, checkpoints (nested, too), gradients that become part of the graph (up to the third
order), and float32 with kernels on and off.
"""

import inspect
import random
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Author, numbers, world

import tinygen
import tinygen.backward as walk
from tinygen import Tensor, ops, transforms
from tinygen.backward import backward, cotangent
from tinygen.ops import index
from tinygen.transforms import alias

# -- tinygen, by the names that programs use -------------------------------------------------------


def gradients(y, g, *xs, create_graph=True):
    """Of <y, g> by each of xs, which may be inner tensors. Two gradients can be one Tensor, and one can be
    computed from another; as aliases each stands for itself, so that one may differentiate by it."""
    g = cotangent(y, g)
    if create_graph and not isinstance(g, Tensor):
        g = Tensor(g)
    grads = backward([y], [g], xs, retain_graph=True, create_graph=create_graph)
    return [alias(grads.get(x.node or x, Tensor(np.zeros_like(x.data)))) for x in xs]


def pulled(f, g, *xs):
    y, pull = tinygen.vjp(f, *xs)
    return [y, *map(alias, pull(g))]


WAYS = ("no_grad", "checkpoint", "kernels", "anomaly", "hvp", "jvp")
TINYGEN = SimpleNamespace(ops=ops, pulled=pulled, gradients=gradients)
vars(TINYGEN).update({name: getattr(tinygen, name) for name in WAYS})

# -- do they agree? --------------------------------------------------------------------------------


class Run:
    """A program run with tinygen, to be compared with what its author knows."""

    def __init__(self, author):
        self.author = author
        self.tolerance = 1e-9 if author.dtype == "float64" else 2e-3
        self.names, self.leaves = world(author.dtype, Tensor, TINYGEN)
        self.given = []  # the arrays that the program made, with what they were made from
        self.names["numbers"] = lambda *how: self.given.append((numbers(*how), how)) or self.given[-1][0]
        exec(compile("\n".join(author.lines), "<program>", "exec"), self.names)
        self.tensors = [*(self.names[name] for name in author.pool), *self.leaves]
        self.before = [x.data.copy() for x in self.tensors]

    def same(self, what, found, expected):
        assert found.shape == expected.shape, f"{what} has shape {found.shape}, not {expected.shape}"
        atol = self.tolerance * max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)

    def values(self):
        for name in self.author.pool:
            x = self.names[name]
            self.same(name, x.data, self.author.names[name].value)
            assert self.author.dtype in ("mixed", x.dtype), f"{name} is {x.dtype}"

    def inner_gradients(self, create_graph):
        """By tensors in the midst of the graph, which stays as it is."""
        known = [x for x in self.author.inner if self.names[x].requires_grad]
        true = naive.gradients(self.author.names["loss"], 1.0, *[self.author.names[x] for x in known])
        xs = [self.names[x] for x in known]
        found = gradients(self.names["loss"], 1.0, *xs, create_graph=create_graph)
        for x, g, expected in zip(known, found, true, strict=True):
            g = g.data if isinstance(g, Tensor) else g
            self.same(f"the gradient by {x}, create_graph={create_graph}", g, expected.value)

    def backward(self, loss, retain_graph):
        """Adds to the leaves what the naive engine says; what it adds is fresh."""
        y, leaves = self.names[loss], self.leaves
        before = [np.zeros(x.shape) if x.grad is None else x.grad.copy() for x in leaves]
        y.backward(retain_graph=retain_graph)
        true = naive.gradients(self.author.names[loss], 1.0, *self.author.leaves)
        after = [np.zeros(x.shape) if x.grad is None else x.grad for x in leaves]
        for i, x in enumerate(leaves):
            self.same(f"the gradient of {loss} by leaf {i}", after[i] - before[i], true[i].value)
            arrays = [g for j, g in enumerate(after) if j != i]
            arrays += [*(x.data for x in self.tensors), *(array for array, _ in self.given)]
            assert after[i].dtype == x.dtype or x.grad is None
            assert after[i].flags.writeable
            assert after[i].flags.c_contiguous
            assert not any(np.may_share_memory(after[i], other) for other in arrays), f"leaf {i}: shared"

    def refuses(self, loss, message):
        before = [None if x.grad is None else x.grad.copy() for x in self.leaves]
        with pytest.raises(RuntimeError, match=message):
            self.names[loss].backward()
        for x, g in zip(self.leaves, before, strict=True):
            np.testing.assert_array_equal(x.grad, g)

    def nothing_was_written(self):
        for x, before in zip(self.tensors, self.before, strict=True):
            np.testing.assert_array_equal(x.data, before)
        for array, how in self.given:
            np.testing.assert_array_equal(array, numbers(*how))


def agree(author):
    try:
        run = Run(author)
        run.values()
        for loss in ("loss", "other"):
            if not run.names[loss].requires_grad:  # all of its gradients are known to be 0
                true = naive.gradients(author.names[loss], 1.0, *author.leaves)
                assert not any(g.value.any() for g in true), f"{loss} has lost its graph"
                run.refuses(loss, "does not depend on anything")
        if run.names["loss"].requires_grad:
            run.inner_gradients(create_graph=False)
            run.inner_gradients(create_graph=True)
            run.backward("loss", retain_graph=True)
            run.backward("loss", retain_graph=True)
        if run.names["other"].requires_grad:
            run.backward("other", retain_graph=False)
            run.refuses("other", "freed the graph")
        run.nothing_was_written()
    except Exception as error:
        error.add_note(f"the program ({author.dtype}):\n" + "\n".join(author.lines))
        raise


def program(seed):
    chance = random.Random(seed)
    return Author(chance, chance.randint(5, 40))


@pytest.mark.parametrize("start", range(0, 300, 20))
def test_random_graphs(start):
    for seed in range(start, start + 20):
        agree(program(seed))


@settings(max_examples=100)
@given(chance=st.randoms(use_true_random=False), length=st.integers(1, 40))
def test_random_graphs_that_shrink(chance, length):
    agree(Author(chance, length))


@pytest.mark.slow
def test_ten_thousand_random_graphs(capsys):
    lines = 0
    for seed in range(10_000):
        author = program(seed)
        agree(author)
        lines += len(author.lines)
    with capsys.disabled():
        print(f"\n10,000 graphs of {lines:,} lines, no mismatch")


# -- would they notice? ----------------------------------------------------------------------------

BUGS = {
    "a borrowed gradient is added into": (
        *(walk.accumulate, "            sums[x] = g\n", "            owned.add(x); sums[x] = g\n"),
    ),
    "oldest node first": (walk.backward, "reversed(order)", "order"),
    "the second use is forgotten": (walk.accumulate, "sums[x] = before + g", "pass"),
    "the third use is forgotten": (walk.accumulate, "before += g", "pass"),
    "retain_graph frees": (walk.backward, "(retain_graph or create_graph)", "create_graph"),
    "broadcast axes are not summed": (walk.unbroadcast, "if g.shape != x.shape", "if False"),
    "unused outputs send ones": (walk.zeros_for_unused, "np.zeros_like", "np.ones_like"),
    "a replay computes held tensors again": (walk.replay, "value if held is None else held", "value"),
    "a replay takes dropped values for constants": (
        *(
            walk.replay,
            "return value if",
            "return (value.detach() if isinstance(value, Tensor) else value) if",
        ),
    ),
    "entries that are read twice are overwritten": (index.may_repeat, "!=", "=="),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found(bug, monkeypatch):
    function, old, new = BUGS[bug]
    source = inspect.getsource(function)
    assert source.count(old) == 1, "the line has changed: plant the bug into the new one"
    planted = {}
    exec(source.replace(old, new), function.__globals__, planted)
    for names in (function.__globals__, vars(transforms), globals()):
        if names.get(function.__name__) is function:
            monkeypatch.setitem(names, function.__name__, planted[function.__name__])

    def found(seed):
        try:
            agree(program(seed))
        except Exception:
            return True
        return False

    assert any(found(seed) for seed in range(300))
