"""The fast steps of optimizers beside their definitions."""

import numpy as np
import pytest

import tinygen
from tinygen import nn
from tinygen.kernels.registry import LEAST
from tinygen.optim import SGD, Adam, AdamW, Optimizer, fused

SHAPES = ((), (3,), (5, 7), (0, 4), (130, 70), (40000,))  # numbers, empty, several pieces


def parameters(dtype):
    rng = np.random.default_rng(0)
    return [nn.Parameter(rng.standard_normal(shape), dtype=dtype) for shape in SHAPES]


def step(optimizer, rng, i):
    """Step i with normal gradients; one parameter has none in the first two."""
    for p in optimizer.params:
        p.grad = rng.standard_normal(p.shape).astype(p.dtype)
    if i < 2:
        optimizer.params[1].grad = None
    optimizer.step()


def steps(optimizer, n):
    rng = np.random.default_rng(1)
    for i in range(n):
        step(optimizer, rng, i)


def trained(kind, dtype, mode, size=None, n=5):
    optimizer = kind(parameters(dtype), lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    optimizer.size = size or optimizer.size
    with tinygen.kernels(mode):
        steps(optimizer, n)
    return optimizer


@pytest.mark.parametrize("mode", ["numpy", "auto"])
@pytest.mark.parametrize("size", [LEAST - 1, LEAST], ids=["small", "large"])
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_fast_adam_is_its_definition(kind, dtype, rtol, size, mode):
    """To 13 digits in float64; in float32 to 5, and to 1e-6 where terms cancel."""
    found, expected = (trained(kind, dtype, m, size) for m in (mode, "off"))
    for p, q in zip(found.params, expected.params, strict=True):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.data, q.data, rtol=rtol, atol=rtol / 10)
        assert found.state[p]["step"] == expected.state[q]["step"]
        for name in "mv":
            np.testing.assert_allclose(
                found.state[p][name], expected.state[q][name], rtol=rtol, atol=rtol / 10
            )


@pytest.mark.parametrize("modes", [("off", "auto"), ("auto", "off")])
def test_adam_goes_on_in_another_mode(modes):
    """The state means the same to both."""
    expected = trained(Adam, np.float64, "off", n=4)
    optimizer = Adam(parameters(np.float64), lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    rng = np.random.default_rng(1)
    for i in range(4):
        with tinygen.kernels(modes[i // 2]):
            step(optimizer, rng, i)
    for p, q in zip(optimizer.params, expected.params, strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_definition_by_hand(kind):
    """Two steps of Algorithm 1 and 2, written out."""
    p = nn.Parameter(np.array([1.0]), dtype=np.float64)
    optimizer = kind([p], lr=0.1, betas=(0.8, 0.5), eps=0.01, weight_decay=0.5)
    x, m, v = 1.0, 0.0, 0.0
    with tinygen.kernels("off"):
        for t, g in enumerate((2.0, -1.0), 1):
            p.grad = np.array([g])
            optimizer.step()
            if kind is Adam:
                g += 0.5 * x
            m, v = 0.8 * m + 0.2 * g, 0.5 * v + 0.5 * g * g
            shrunk = x * (1 - 0.1 * 0.5) if kind is AdamW else x
            x = shrunk - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.5**t)) + 0.01)
            np.testing.assert_allclose(p.data, [x], rtol=1e-14)


def test_pieces_of_sgd_are_the_definition_to_the_bit(monkeypatch):
    found = []
    for update_group in (SGD.update_group, Optimizer.update_group):
        monkeypatch.setattr(SGD, "update_group", update_group)
        optimizer = SGD(parameters(np.float32), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
        steps(optimizer, 3)
        found.append(optimizer)
    for p, q in zip(found[0].params, found[1].params, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        np.testing.assert_array_equal(found[0].state[p]["m"], found[1].state[q]["m"])


def test_pieces_cover_every_entry_once(monkeypatch):
    monkeypatch.setattr(fused, "PIECE", 7)
    a, b = np.zeros((4, 5)), np.arange(20.0).reshape(4, 5)
    sizes = []
    for x, y in fused.pieces(a, b):
        x += y + 1
        sizes.append(x.size)
    assert sizes == [7, 7, 6]
    np.testing.assert_array_equal(a, b + 1)


def test_the_compiled_kernel_takes_the_small_arrays_of_a_large_model():
    with tinygen.kernels("auto"):
        [kernel] = tinygen.kernels.enabled_kernels(fused.ADAM, "numba")
    assert kernel.worth(*arrays(4))


def arrays(n):
    return [np.ones(3) for _ in range(n)]


GROUP = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
ADAM_GROUP = {"lr": 0.1, "betas": (0.9, 0.9), "eps": 0.1, "weight_decay": 0.0}
MEANS = [{"step": 0, "m": np.zeros(3), "v": np.zeros(3)}]
STEP = {"keep": 1.0, "decay": 0.0, "betas": (0.9, 0.9)}
LISTS = [
    lambda: SGD(parameters(np.float32), 0.1).update_group(arrays(1), arrays(2), [{}], GROUP),
    lambda: SGD(parameters(np.float32), 0.1).update_group(arrays(1), arrays(1), [{}, {}], GROUP),
    lambda: Optimizer.update_group(SGD(parameters(np.float32), 0.1), arrays(1), arrays(2), [{}], GROUP),
    lambda: fused.adam(*arrays(4), rates=[0.1], epsilons=[], **STEP),
    lambda: Adam(parameters(np.float32)).update_group(arrays(1), arrays(2), MEANS, ADAM_GROUP),
    lambda: fused.adam(*arrays(4), rates=[0.1, 0.1], epsilons=[1.0, 1.0], **STEP),
    lambda: list(fused.pairs(fused.Flats(), arrays(1), arrays(2))),
]


@pytest.mark.parametrize("take", LISTS)
def test_lists_of_different_lengths_are_refused(take):
    """With a gradient too few, a parameter would stay as it is, and nobody would know."""
    with pytest.raises(ValueError, match="zip"):
        take()
