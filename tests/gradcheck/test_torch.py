"""Functions of torch tensors: the same verdicts for torch's gradients."""

import subprocess
import sys

import numpy as np
import pytest

from tinygen import gradcheck, ops
from tinygen.gradcheck import Kind, Verdict

torch = pytest.importorskip("torch")
A = np.random.default_rng(0).normal(size=(3, 4))


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Unsummed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, b):
        return x + b

    @staticmethod
    def backward(ctx, g):
        return g, g[0]


def tensor(x):
    return torch.tensor(x, dtype=torch.float32)


def test_functions_and_second_order():
    report = gradcheck(lambda x, w: torch.tanh(x @ w), tensor(A), tensor(A.T), order=2)
    assert report
    assert [r.name for r in report.results][:2] == ["input x", "input w"]


def test_a_module_and_its_parameters():
    layers = [torch.nn.Linear(4, 5), torch.nn.Dropout(0.5), torch.nn.GELU(), torch.nn.LayerNorm(5)]
    model = torch.nn.Sequential(*layers)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.random.get_rng_state()
    report = gradcheck(model, tensor(A), order=2)
    assert report
    assert [r.name for r in report.results][1:3] == ["parameter 0.weight", "parameter 0.bias"]
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in model.named_parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    assert gradcheck(model.forward, tensor(A))


def test_integers_are_passed_as_they_are():
    assert gradcheck(torch.nn.Embedding(5, 3), torch.tensor([0, 1, 1]))
    assert gradcheck(torch.nn.BatchNorm1d(4), tensor(A))


@pytest.mark.parametrize(
    ("f", "kind"),
    [
        (lambda x: torch.exp(Halved.apply(x)), Kind.CONSTANT),
        (lambda x: torch.softmax(x, -1).detach() * 2, Kind.DETACHED),
        (lambda x: Unsummed.apply(x.detach(), x[0]), Kind.SUM),
    ],
)
def test_mistakes(f, kind):
    report = gradcheck(f, tensor(A))
    assert not report
    assert report.kind is kind
    assert report.culprit is None  # torch's tape is not replayed


def test_verdicts():
    assert gradcheck(torch.relu, tensor([0.0, 1.0])).verdict is Verdict.KINK
    assert gradcheck(torch.sqrt, tensor([0.0, 1.0])).verdict is Verdict.DOMAIN
    assert gradcheck(torch.log, tensor([-1.0, 1.0])).verdict is Verdict.DOMAIN
    assert gradcheck(lambda x: torch.tanh(x.float() * 2), tensor(A)).verdict is Verdict.INCONCLUSIVE
    assert gradcheck(lambda x: x * torch.rand(x.shape), tensor(A))  # torch's generator is rewound
    generator = np.random.default_rng()
    assert gradcheck(lambda x: x * torch.tensor(generator.random(x.shape)), tensor(A))
    assert (
        gradcheck(lambda x: x * np.random.default_rng().random(), tensor(A)).verdict
        is Verdict.NONDETERMINISTIC
    )


def test_once_differentiable():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 2 * g * ctx.saved_tensors[0]

    assert gradcheck(Once.apply, tensor(A))
    assert gradcheck(Once.apply, tensor(A), order=2).verdict is Verdict.DEAD


def test_nothing_to_check():
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda x: x, torch.arange(3))


SAME = [
    (lambda x: np.exp(x).sum(axis=-1), lambda x: torch.exp(x).sum(-1)),
    (ops.softmax, lambda x: torch.softmax(x, -1)),
    (lambda x: ops.gelu(x), torch.nn.functional.gelu),
    (lambda x: x.T @ x, lambda x: x.T @ x),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME)
def test_both_are_checked_alike(ours, theirs):
    for order in (1, 2):
        a, b = gradcheck(ours, A, order=order), gradcheck(theirs, torch.tensor(A), order=order)
        assert a
        assert b
        assert [(r.shape, r.entries) for r in a.results] == [(r.shape, r.entries) for r in b.results]


def test_the_verdict_on_a_mistake_is_the_same():
    from tinygen import op

    @op
    def halved(x):
        return x * x, lambda g: g * x

    ours, theirs = gradcheck(halved, A), gradcheck(Halved.apply, torch.tensor(A))
    assert ours.kind is theirs.kind
    assert ours.results[0].off == theirs.results[0].off == A.size


def test_torch_is_not_imported_for_others():
    check = "tinygen.gradcheck(numpy.tanh, numpy.ones(1))"
    code = f"import sys, numpy, tinygen; {check}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
