"""Memory that a graph keeps for its gradient: as many big arrays as the formula needs, none for linear
ops."""

import gc
import inspect
from types import CodeType, ModuleType

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, ops
from tinygen.backward import topological_order

N = 32
IDS = np.zeros(5, int)
MASK = np.tri(N, dtype=bool)

KEPT = {  # how many arrays of N·N entries: (function of the inputs, kept)
    "nothing": [
        ("add", lambda a, b: a + b),
        ("subtract", lambda a, b: a - b),
        ("negative", lambda a: -a),
        ("sign", np.sign),
        ("sum", lambda a: a.sum(axis=0)),
        ("mean", lambda a: a.mean(axis=1)),
        ("cumsum", lambda a: np.cumsum(a, 0)),
        ("reshape", lambda a: a.reshape(-1)),
        ("squeeze", np.squeeze),
        ("expand_dims", lambda a: np.expand_dims(a, 0)),
        ("transpose", lambda a: a.T),
        ("swapaxes", lambda a: a.swapaxes(0, 1)),
        ("moveaxis", lambda a: np.moveaxis(a, 0, 1)),
        ("flip", np.flip),
        ("roll", lambda a: np.roll(a, 1)),
        ("broadcast_to", lambda a: np.broadcast_to(a, (2, N, N))),
        ("concatenate", lambda a, b: np.concatenate([a, b])),
        ("stack", lambda a, b: np.stack([a, b])),
        ("split", lambda a: np.split(a, 2)[0]),
        ("pad", lambda a: np.pad(a, 1)),
        ("repeat", lambda a: np.repeat(a, 2)),
        ("tile", lambda a: np.tile(a, 2)),
        ("tril", np.tril),
        ("triu", np.triu),
        ("getitem", lambda a: a[1:, ::2]),
        ("take", lambda a: np.take(a, IDS, 0)),
        ("take_along_axis", lambda a: np.take_along_axis(a, IDS[None], 1)),
        ("embedding", lambda a: ops.embedding(a, IDS)),
        ("scatter_add", lambda a: ops.scatter_add(a, slice(0, N), (2 * N, N))),
        ("astype", lambda a: a.astype(np.float64)),
    ],
    "the input or the output": [
        ("square", np.square),
        ("integer power", lambda a: a**3),
        ("reciprocal", np.reciprocal),
        ("exp", np.exp),
        ("expm1", np.expm1),
        ("log", np.log),
        ("log1p", np.log1p),
        ("sqrt", np.sqrt),
        ("tanh", np.tanh),
        ("sigmoid", ops.sigmoid),
        ("erf", ops.erf),
        ("sin", np.sin),
        ("cos", np.cos),
        ("absolute", np.abs),
        ("relu", ops.relu),
        ("leaky_relu", ops.leaky_relu),
        ("softplus", ops.softplus),
        ("log_sigmoid", ops.log_sigmoid),
        ("softmax", ops.softmax),
        ("log_softmax", ops.log_softmax),
        ("logsumexp", lambda a: ops.logsumexp(a, -1)),
        ("max", lambda a: a.max(axis=0)),
        ("min", lambda a: a.min(axis=0)),
        ("var", lambda a: a.var(axis=0)),
        ("std", lambda a: np.std(a, axis=0)),
        ("where", lambda a, b: np.where(MASK, a, b)),
        ("dropout", lambda a: ops.dropout(a, 0.5, np.random.default_rng(0))),
        ("layer_norm", lambda a: ops.layer_norm(a, np.ones(N), np.zeros(N))),
        ("rms_norm", lambda a: ops.rms_norm(a, np.ones(N))),
        ("group_norm", lambda a: ops.group_norm(a, 4, np.ones(N), np.zeros(N))),
        ("batch_norm", lambda a: ops.batch_norm(a, np.ones(N), np.zeros(N))),
    ],
    "two": [
        ("multiply", lambda a, b: a * b),
        ("divide", lambda a, b: a / b),
        ("rsqrt", ops.rsqrt),
        ("gelu", ops.gelu),
        ("gelu tanh", lambda a: ops.gelu(a, "tanh")),
        ("silu", ops.silu),
        ("clip", lambda a: np.clip(a, 0.3, 0.6)),
        ("maximum", np.maximum),
        ("minimum", np.minimum),
        ("matmul", lambda a, b: a @ b),
        ("linear", lambda a, b: ops.linear(a, b)),
        ("einsum", lambda a, b: np.einsum("ij,jk->ik", a, b)),
        ("cross_entropy", lambda a: ops.cross_entropy(a, np.zeros(N, int))),
    ],
    "three": [("power", lambda a, b: a**b)],
    "four: q, k, v and the weights": [("attention", lambda q, k, v: ops.attention(q, k, v, causal=True))],
}
CASES = [(name, f, kept) for kept, cases in enumerate(KEPT.values()) for name, f in cases]


def big_arrays(value):
    """The arrays of at least N·N entries that the rules of the tape under `value` hold: those that own
    their memory, each once."""
    found, seen, stack = {}, set(), [node.rules for node in topological_order([value])]
    while stack:
        x = stack.pop()
        if id(x) in seen or isinstance(x, (ModuleType, type, CodeType, dict)):
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            while x.base is not None:
                x = x.base
            if x.size >= N * N:
                found[id(x)] = x
        else:
            stack.extend(gc.get_referents(x))
    return list(found.values())


def arity(f):
    if isinstance(f, np.ufunc):
        return f.nin
    return sum(p.default is p.empty for p in inspect.signature(f).parameters.values())


@pytest.mark.parametrize(("name", "f", "kept"), CASES, ids=[case[0] for case in CASES])
def test_as_many_arrays_as_the_formula_needs(name, f, kept):
    rng = np.random.default_rng(0)
    inputs = [Tensor(rng.random((N, N)) + 0.1, requires_grad=True) for _ in range(arity(f))]
    with tinygen.kernels("off"):
        value = f(*inputs)
    assert len(big_arrays(value)) == kept


def test_the_walk_sees_what_closures_keep():
    """The check itself: a rule that needs the shape only, and keeps the whole array."""

    @tinygen.op
    def careless(x):
        return x.sum(), lambda g: np.broadcast_to(g, x.shape)

    assert len(big_arrays(careless(Tensor(np.ones((N, N)), requires_grad=True)))) == 1
