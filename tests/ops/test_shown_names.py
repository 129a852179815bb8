"""Errors, graphs and gradcheck show the names that users call, not the names of internal functions."""

import numpy as np
import pytest
from cases import CASES, op_of
from optable import outputs, tensors

import tinygen
from tinygen import Tensor, gradcheck, ops
from tinygen.backward import topological_order
from tinygen.nn.rope import rotary
from tinygen.node import PICK

IN_NUMPY = {name for module in (np, np.linalg, np.fft) for name in dir(module)}

INTERNAL = (
    *("bce_with_logits", "concatenate", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    *("cross_entropy", "dropout", "einsum", "getitem", "kl_gaussian", "max_pool1d", "max_pool2d"),
)
"""Public functions that check their arguments first: the op behind each has another name."""


def shown(case) -> set[str]:
    values = outputs(case.f(*tensors(case.inputs, np.float64)))
    nodes = topological_order([v for v in values if getattr(v, "node", None)])
    return {node.name for node in nodes if node.op is not PICK}


def test_all_names_that_are_shown_can_be_called():
    names = {name: case.name for case in CASES for name in shown(case)}
    hidden = {name: case for name, case in names.items() if name not in IN_NUMPY | set(ops.__all__)}
    assert hidden == {}


@pytest.mark.parametrize("name", INTERNAL)
def test_an_op_is_shown_by_the_name_of_the_function_that_was_called(name):
    cases = [case for case in CASES if op_of(case.name) == name]
    assert cases
    assert all(name in shown(case) for case in cases if shown(case))


def leaf(*shape):
    return Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)


def test_rotary():
    assert rotary(leaf(4, 6)).node.name == "rotary"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("concatenate", lambda: np.concatenate([leaf(2, 3), np.ones((3, 4))])),
        ("getitem", lambda: leaf(2, 3)[5]),
    ],
)
def test_errors_begin_with_the_name_that_was_called(name, call):
    with pytest.raises((ValueError, IndexError), match=rf"^{name}\(float64 \(2, 3\)"):
        call()


def test_graphs_show_them():
    x, w = leaf(1, 1, 4, 4), leaf(1, 1, 3, 3)
    y = np.concatenate(
        [ops.max_pool2d(ops.conv2d(x, w), 2).reshape(1), np.einsum("i,i->i", leaf(3), leaf(3))]
    )
    text = tinygen.graph(y[0]).text()
    for call in ("conv2d(", "max_pool2d(", "concatenate(", "einsum(", "getitem("):
        assert f"= {call}" in text


def test_a_node_whose_inputs_were_freed_keeps_its_name():
    y = ops.conv2d(leaf(1, 1, 4, 4), leaf(1, 1, 3, 3)).sum()
    (node,) = y.node.inputs
    y.backward()
    assert node.inputs == ()
    assert node.name == "conv2d"


def test_gradcheck_shows_them(monkeypatch):
    op = ops.loss.token_losses.op
    value = op.compute

    def wrong(*args):
        losses, rule = value(*args)
        return losses, lambda g: 2 * rule(g)

    monkeypatch.setattr(op, "compute", wrong)
    report = gradcheck(
        lambda x: ops.cross_entropy(x, np.array([0, 2])), np.array([[0.1, 0.5, 0.2], [1.0, 0, 2]])
    )
    assert report.culprit.op == "cross_entropy"


def test_reprs_of_ops_and_nodes():
    x = leaf(2, 3)
    y = np.exp(x)
    assert repr(y.node.op) == "<Op exp>"
    assert repr(y.node) == f"<Node exp float64 (2, 3), called at {y.node.where}>"
