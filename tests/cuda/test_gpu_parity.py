"""The report of gpu_check for correct and for wrong kernels, ops and training steps: in the simulator, and
on the stand-in array."""

import contextlib
import importlib

import gpu_parity
import gpu_stage
import no_waiting
import numpy as np
import pytest
from foreign import Foreign
from gpu_tables import problems
from kernel_checks import CHECKS
from kernels import FILES, KERNELS
from schedule import scheduled

from tinygen import kernels, ops
from tinygen.optim import clip_grad_norm


def wrong(figures):
    return problems({"stage": {"figures": figures}})


@contextlib.contextmanager
def planted(op, wrong):
    """On the stand-in array, the op computes `wrong`; on the CPU, what it should."""
    right = op.op.body
    instead = lambda x, *rest, **options: (wrong if type(x) is Foreign else right)(x, *rest, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op.op, "body", instead)
        patch.setattr(op.op, "compute", instead)
        kernels(kernels.mode)  # ops that have kernels take them, and the body where those do not
        yield
    kernels(kernels.mode)


def doubled_gradient(x):
    y = np.tanh(x)
    return y, lambda g: 2 * g * (1 - y * y)


def test_every_kernel_has_its_sizes():
    assert gpu_parity.FAMILIES == FILES
    assert gpu_parity.SIZES.keys() == gpu_parity.SMALL.keys() == CHECKS.keys()


def test_the_kernels_agree():
    with scheduled("up"):
        figures = dict(gpu_parity.agreement("cpu"))
    assert figures.keys() == CHECKS.keys()
    assert wrong(figures) == []


def test_a_wrong_kernel_is_named_and_a_broken_one_stops_no_other(monkeypatch):
    def broken(x):
        raise ValueError("no such GPU")

    monkeypatch.setattr(KERNELS.reduce, "sum_rows", lambda x: x[:, 0])
    monkeypatch.setattr(KERNELS.softmax, "softmax", broken)
    with scheduled("up"):
        first, second = wrong(dict(gpu_parity.agreement("cpu")))
    assert first.startswith("stage, reduce: off by ")
    assert first.endswith("1e-04 allowed sums (2,)")
    assert second.startswith("stage, softmax: ValueError('no such GPU') (test_gpu_parity.py:")


def test_kernels_that_cannot_be_loaded_are_named(monkeypatch):
    monkeypatch.setattr(
        gpu_parity.kernels, "table", lambda: "gelu  cuda  tinygen_cuda.gelu.gelu  no: no Numba"
    )
    assert next(gpu_parity.agreement("cuda")) == (
        "loaded",
        {"failed": "gelu cuda tinygen_cuda.gelu.gelu no: no Numba"},
    )


@pytest.mark.parametrize("stage", [gpu_parity.every_op, gpu_parity.every_definition])
def test_every_op_on_a_stand_in(stand_in, stage):
    figures = dict(stage("cuda"))
    assert figures.keys() >= set(ops.__all__)
    assert wrong(figures) == []


def test_a_wrong_op_is_named(stand_in, monkeypatch):
    gpu_stage.of_checkout("tests/ops")
    on_gpu = importlib.import_module("on_gpu")
    cases = [case for case in on_gpu.EVERY if case.name in ("tanh-(3,)", "sin-(3,)", "equal", "argmax")]
    monkeypatch.setattr(on_gpu, "EVERY", cases)
    with (
        planted(ops.tanh, doubled_gradient),
        planted(ops.sin, lambda x: (np.sin(x) + 1e-4, lambda g: g * np.cos(x))),
        planted(ops.equal, lambda x, y: (x != y,)),
    ):
        said = wrong(dict(on_gpu.figures("cuda", "float32")))
    assert {(line.split()[1], line.split()[-1]) for line in said} == {
        *(("tanh:", "tanh-(3,)"), ("sin:", "sin-(3,)"), ("equal:", "equal"))
    }


def test_training_on_a_stand_in(stand_in, monkeypatch):
    monkeypatch.setattr(gpu_parity, "STEPS", 2)
    figures = dict(gpu_parity.training("cuda"))
    assert figures.keys() > gpu_parity.COURSES.keys()
    assert figures["UNet, without waiting"] == "never waited"
    assert wrong(figures) == []


def test_a_step_that_waits_for_the_gpu_is_seen(stand_in, monkeypatch):
    monkeypatch.setattr(gpu_parity, "COURSES", {})
    monkeypatch.setattr(no_waiting, "clip_grad_norm", lambda *args: float(clip_grad_norm(*args)))
    said = wrong(dict(gpu_parity.training("cuda")))
    assert len(said) == 4
    assert all("a value was looked at, which waits for the GPU" in line for line in said)


def test_a_gradient_that_is_too_long_is_seen(stand_in, monkeypatch):
    """Adam's steps are the same for it."""
    monkeypatch.setattr(gpu_parity, "STEPS", 2)
    right = ops.relu.op.body

    def doubled(x):
        y, rule = right(x)
        return y, lambda g: 2 * rule(g)

    with planted(ops.relu, doubled):
        figure = gpu_parity.beside_cpu(gpu_parity.COURSES["VAE"], "cuda")
    assert figure["worst"].startswith("gradient of encoder.")
    assert figure["error"] > 0.5 > figure["limit"]
