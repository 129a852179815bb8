"""Modules: their parameters are checked too, on a copy; and an op that is wrong is found inside a model."""

import math
from pathlib import Path

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn, op, ops
from tinygen.gradcheck import Kind, Verdict
from tinygen.models.language.gpt import GPT, GPTConfig

X = np.random.default_rng(0).normal(size=(2, 3, 8))


def rng(seed=0):
    return np.random.default_rng(seed)


def test_inputs_and_parameters_have_their_names():
    report = gradcheck(nn.MLP(8, rng=rng()), X)
    assert report
    assert [r.name for r in report.results] == [
        *("input x", "parameter fc.weight", "parameter fc.bias"),
        *("parameter proj.weight", "parameter proj.bias"),
    ]
    assert [r.shape for r in report.results] == [(2, 3, 8), (32, 8), (32,), (8, 32), (8,)]


def test_second_order():
    names = [
        r.name for r in gradcheck(nn.Linear(3, 2, rng=rng()), X[..., :3], order=2).results if r.order == 2
    ]
    assert names == ["cotangent", "input x", "parameter weight", "parameter bias"]


def test_the_module_itself_is_left_alone():
    layer = nn.Sequential(nn.Linear(8, 8, rng=rng()), nn.BatchNorm(8), nn.Dropout(0.3, rng=rng(1)))
    before = layer.state_dict()
    state = layer[2].rng.bit_generator.state
    assert gradcheck(layer, X[0])
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
        assert value.dtype == np.float32
    assert all(p.grad is None and p.version == 0 for p in layer.parameters())
    assert layer[2].rng.bit_generator.state == state


def test_a_method_of_a_module():
    class Pair(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(8, 4, rng=rng()), nn.Linear(8, 4, rng=rng(1))

        def distance(self, x, y):
            return np.square(self.a(x) - self.b(y)).sum()

    report = gradcheck(Pair().distance, X[0], X[1])
    assert report
    assert [r.name for r in report.results][:3] == ["input x", "input y", "parameter a.weight"]


def test_tied_weights_stay_tied_and_are_one_variable():
    model = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4), rng=rng())
    report = gradcheck(model, np.array([[0, 3, 2]]))
    assert report
    assert [r.name for r in report.results].count("parameter wte.weight") == 1
    assert not any("lm_head" in r.name for r in report.results)


def test_frozen_parameters_are_not_checked():
    layer = nn.Linear(8, 2, rng=rng())
    layer.bias.requires_grad = False
    assert [r.name for r in gradcheck(layer, X).results] == ["input x", "parameter weight"]


def test_without_inputs_the_parameters_are_enough():
    class Scale(nn.Module):
        def __init__(self):
            self.log_scale = nn.Parameter([0.3, 0.4])

        def forward(self):
            return np.exp(self.log_scale)

    assert [r.name for r in gradcheck(Scale()).results] == ["parameter log_scale"]


@op
def norm_without_weight(x, weight, bias):
    """Layer norm whose gradient forgets the weight: while that is 1, nothing is wrong."""
    c = x - x.mean(axis=-1, keepdims=True)
    inv = 1 / np.sqrt((c * c).mean(axis=-1, keepdims=True) + 1e-5)
    xhat = c * inv

    def dx(g):
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight + bias, dx, lambda g: g * xhat, lambda g: g


class Norm(nn.LayerNorm):
    def forward(self, x):
        return norm_without_weight(x, self.weight, self.bias)


def test_parameters_that_hide_mistakes_are_moved():
    report = gradcheck(Norm(8), X)
    assert report.verdict is Verdict.WRONG
    assert report.kind is Kind.SLOPE
    assert report.notes == ["checked near their values, which are all equal there: weight, bias"]


def test_a_zero_initialization_hides_nothing():
    class Gated(nn.Module):
        def __init__(self):
            self.norm, self.gate = Norm(8), nn.Parameter(np.zeros(8))
            self.norm.weight.data = np.linspace(0.5, 2, 8, dtype=np.float32)

        def forward(self, x):
            return x + self.gate * self.norm(x)

    assert gradcheck(Gated(), X).culprit.op == "norm_without_weight"


def test_a_buffer_that_is_written_and_used_is_named():
    class Centered(nn.Module):
        def __init__(self):
            self.register_buffer("mean", np.zeros(3))

        def forward(self, x):
            self.mean.data = 0.5 * self.mean.data + 0.5 * x.numpy().mean(axis=0)
            return x - self.mean

    report = gradcheck(Centered(), rng(0).normal(size=(5, 3)))
    assert report.kind is Kind.DETACHED
    assert "argument b of `subtract`" in report.findings[0].sentence


def test_buffers_are_the_same_in_every_run():
    """Power iteration moves its vector with every call."""

    class Spectral(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(rng().normal(size=(8, 8)))
            self.register_buffer("u", rng(1).normal(size=8))

        def forward(self, x):
            self.u.data = self.weight.numpy() @ self.u.numpy()
            self.u.data /= np.linalg.norm(self.u.numpy())
            return (x @ self.weight) * self.u.detach()

    report = gradcheck(Spectral(), X)
    assert report.verdict is not Verdict.NONDETERMINISTIC
    assert report.kind is Kind.DETACHED  # and indeed u depends on the weight


def test_parameters_that_are_reached_without_being_given_are_named():
    model = nn.MLP(8, rng=rng())
    report = gradcheck(lambda x: np.mean(model(x) ** 2), X)
    assert report
    assert "model.fc.weight, model.fc.bias, model.proj.weight, model.proj.bias" in report.notes[0]
    assert "Pass the Module itself" in report.notes[0]
    assert [r.name for r in report.results] == ["input x"]
    w = Tensor(rng().normal(size=8), requires_grad=True)
    assert "not checked: w, which" in gradcheck(lambda x: x * w, X).notes[0]
    assert not gradcheck(lambda x: x * w.detach(), X).notes
    assert not gradcheck(model, X).notes


def test_what_a_closed_over_module_keeps_is_left_alone():
    model = nn.Sequential(nn.Linear(8, 4, rng=rng()), nn.BatchNorm(4))
    before = model.state_dict()
    versions = [p.version for p in model.parameters()]
    arrays = [p.data for p in model.parameters()]
    assert gradcheck(lambda x: model(x[0]), X)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
        assert value.dtype == np.float32
    assert [p.version for p in model.parameters()] == versions
    assert all(p.data is x for p, x in zip(model.parameters(), arrays, strict=True))


def test_batch_norm_in_training_and_in_evaluation():
    assert gradcheck(nn.BatchNorm(3), X, order=2)
    assert gradcheck(nn.BatchNorm(3).eval(), X, order=2)


# -- the op that is wrong, inside a model -----------------------------------------------------------


@op
def bent_gelu(x):
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * (x * x * x)))
    slope = c * (1 + 0.044715 * (x * x))  # a 3 is missing
    return 0.5 * x * (1 + t), lambda g: g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


@op
def unscaled_attention(q, k, v):
    scale = 1 / math.sqrt(q.shape[-1])
    p = ops.softmax(np.where(np.tri(q.shape[-2], dtype=bool), q @ k.swapaxes(-1, -2) * scale, -np.inf))

    def backward(g):
        dp = g @ v.swapaxes(-1, -2)
        ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
        return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g

    return p @ v, backward


class MLP(nn.MLP):
    def forward(self, x):
        return self.proj(bent_gelu(self.fc(x)))


class Attention(nn.MultiHeadAttention):
    def attend(self, q, k, v, mask, causal):
        return nn.attention.merge_heads(unscaled_attention(q, k, v))


def gpt(**parts):
    model = GPT(GPTConfig(vocab_size=7, block_size=4, n_layer=2, n_head=2, n_embd=8), rng=rng())
    for p in model.parameters():
        p.data = p.data + 0.3 * rng(p.size).standard_normal(p.shape, dtype=np.float32)
    for name, part in parts.items():
        setattr(model.h[1], name, part)
    return model


IDS = np.array([[1, 2, 3, 3], [0, 4, 6, 1]])
WRONG = {
    "bent_gelu": ({"mlp": MLP(8, rng=rng())}, Kind.SLOPE, ["x"]),
    "unscaled_attention": ({"attn": Attention(8, 2, True, rng=rng())}, Kind.CONSTANT, ["q", "k"]),
    "norm_without_weight": ({"ln2": Norm(8)}, Kind.SLOPE, ["x"]),
}


SLOW = {
    name: [pytest.mark.slow] for name in ("bent_gelu", "norm_without_weight")
}  # one does for the plain run


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in WRONG])
def test_it_is_found_in_a_gpt(name):
    parts, kind, arguments = WRONG[name]
    report = gradcheck(gpt(**parts), IDS, np.roll(IDS, -1, axis=1), max_entries=100)
    assert report.verdict is Verdict.WRONG
    assert (report.culprit.op, report.kind, report.culprit.arguments) == (name, kind, arguments)
    path, _, line = report.culprit.where.rpartition(":")
    assert path == __file__
    assert name in Path(path).read_text().splitlines()[int(line) - 1]
    assert name in report.culprit.source
    after = [r for r in report.results if r.name.startswith(("parameter h.1.mlp.proj", "parameter ln_f"))]
    assert {r.verdict for r in after} == {Verdict.OK}  # what comes later is right


def test_the_gpt_itself_is_right():
    assert gradcheck(gpt(), IDS, np.roll(IDS, -1, axis=1), max_entries=100, order=2)


def test_the_first_of_two_culprits_is_named():
    block = nn.Block(8, 2, causal=True, rng=rng())
    block.attn, block.mlp = Attention(8, 2, True, rng=rng()), MLP(8, rng=rng())
    assert gradcheck(block, X).culprit.op == "unscaled_attention"


def test_second_order_is_located_too():
    @op
    def once(x):
        y = np.tanh(x.numpy() if isinstance(x, Tensor) else x)
        return np.tanh(x), lambda g: g * (1 - y * y)

    class Layer(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(8, 8, rng=rng())

        def forward(self, x):
            return np.exp(once(self.fc(x)))

    report = gradcheck(Layer(), X, order=2)
    assert report.culprit.op == "once"
    assert {r.order for r in report.results if r.verdict is not Verdict.OK} == {2}
