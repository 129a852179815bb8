"""Arrays on a GPU go to the kernels in `tinygen_cuda`, and a training step is the same through them.

No GPU is needed: NumPy arrays take the place of GPU arrays, and the kernels run in the simulator."""

import sys

import numpy as np
import pytest
from kernels import KERNELS
from schedule import scheduled

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.kernels import kernels, registry
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.ops.random import DeviceGenerator, Seed, noise_like
from tinygen.optim import AdamW


@pytest.fixture
def on_a_gpu(monkeypatch):
    """NumPy's arrays count as CuPy's; returns the names of the kernels that are launched."""
    launched = []

    def launch(kernel, *args):
        launched.append(kernel.fn.__name__)
        return original(kernel, *args)

    original = KERNELS.softmax.launch
    for module in vars(KERNELS).values():
        if hasattr(module, "launch"):
            monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(registry, "device_of", lambda x: "cuda" if type(x) is np.ndarray else "")
    for entry in kernels.entries:
        if entry.floor == "cuda":
            _, module = entry.compute.__module__.split(".")
            if module == "entrywise":
                continue  # CuPy compiles it, not Numba
            function = getattr(getattr(KERNELS, module), entry.compute.__name__)
            monkeypatch.setattr(entry.compute, "function", function)
    with scheduled("up"):
        yield launched


def test_whose_array_it_is():
    class GPU:
        __module__ = "cupy"

    assert registry.device_of(np.ones(1)) == "cpu"
    assert registry.device_of(GPU()) == "cuda"
    assert [registry.device_of(x) for x in (1.0, None, Tensor([1.0]))] == ["", "", ""]


def test_every_kernel_is_in_the_table():
    rows = [row.split() for row in kernels.table().splitlines() if " cuda " in row]
    assert {row[2].split(".")[1] for row in rows} == set(vars(KERNELS)) - {"reduce", "flash"} | {"entrywise"}
    assert all(row[2].startswith("tinygen_cuda.") for row in rows)


def test_without_cupy_the_table_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    entry = next(e for e in kernels.entries if e.floor == "cuda")
    later = registry.LazyKernel(entry.op, "softmax", registry.accept_any_size, "cuda")
    assert later(np.ones(1)) is NotImplemented
    assert "cupy" in later.missing


def test_definitions_only(on_a_gpu):
    with tinygen.kernels("off"):
        ops.softmax(Tensor(np.ones((2, 3), np.float32)))
    assert on_a_gpu == []


def test_float64_is_left_to_the_definition(on_a_gpu):
    ops.softmax(Tensor(np.ones((2, 3))))
    assert on_a_gpu == []


def gpt_steps():
    model = GPT(GPTConfig(5, 4, n_layer=1, n_head=2, n_embd=4, gelu="tanh"), rng=np.random.default_rng(0))
    optimizer = AdamW(model.parameters(), lr=0.1, eps=1e-3)  # keys' bias has no gradient: with less, noise
    optimizer.size = registry.LEAST  # as if it were large enough for a kernel
    losses = []
    for _ in range(2):
        logits, _ = model(np.array([[0, 1, 4, 1]]))
        loss = ops.cross_entropy(logits, np.array([[1, 4, 1, 2]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.data for p in model.parameters()]


def test_training_gpt(on_a_gpu):
    losses, parameters = gpt_steps()
    assert set(on_a_gpu) == {
        *("layer_norm_rows", "layer_norm_rows_backward", "layer_norm_columns_backward"),
        *("softmax_rows", "softmax_rows_backward", "gelu_tanh", "gelu_tanh_backward"),
        *("cross_entropy_rows", "cross_entropy_rows_backward", "add_runs", "adam_entries"),
    }
    with tinygen.kernels("off"):
        expected, references = gpt_steps()
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for p, reference in zip(parameters, references, strict=True):
        np.testing.assert_allclose(p, reference, atol=1e-5)


def test_one_launch_for_all_parameters_of_a_group(on_a_gpu, monkeypatch):
    monkeypatch.setattr("tinygen.optim.fused.device_of", lambda x: "cuda")
    losses, parameters = gpt_steps()
    assert on_a_gpu.count("adam_entries") == 2  # in two steps
    with tinygen.kernels("off"):
        expected, references = gpt_steps()
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for p, reference in zip(parameters, references, strict=True):
        np.testing.assert_allclose(p, reference, atol=1e-5)


class Pictures(nn.Module):
    """Down, a norm, and up again."""

    def __init__(self, rng):
        self.down = nn.Conv2d(2, 4, 2, stride=2, rng=rng)
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2, rng=rng)

    def forward(self, x):
        return self.up(ops.gelu(self.norm(self.down(x))))


def drawn(rng):
    """Dropout, in a layer and in attention, and noise."""
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32), requires_grad=True)
    layer = nn.MultiHeadAttention(4, 2, dropout=0.5, rng=rng)
    y = ops.dropout(layer(x), 0.5, rng) * noise_like(x.data, rng)
    y.sum().backward()
    return y.data, x.grad


def test_masks_and_noise_of_a_device_generator(on_a_gpu):
    y, g = drawn(DeviceGenerator(1))
    assert on_a_gpu.count("dropped_words") == 4  # two masks, each forward and backward
    assert on_a_gpu.count("normal_words") == 1
    with tinygen.kernels("off"):
        expected, reference = drawn(DeviceGenerator(1))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(g, reference, atol=1e-5)


def test_masks_with_a_mask(on_a_gpu):
    """Attention's definition, whose dropout is drawn by the GPU too."""
    x, seen = np.ones((1, 2, 3, 4), np.float32), np.ones((3, 3), bool)
    ops.attention(Tensor(x), x, x, seen, False, 0.5, Seed(1))
    assert on_a_gpu == ["softmax_rows", "uniform_words"]


def test_numpy_s_generators_draw_on_the_cpu(on_a_gpu):
    drawn(np.random.default_rng(1))
    assert not {"dropped_words", "uniform_words", "normal_words"} & set(on_a_gpu)


def pictures_gradients():
    rng = np.random.default_rng(0)
    model, x = Pictures(rng), Tensor(rng.standard_normal((1, 2, 4, 4)).astype(np.float32))
    np.square(model(x) - x).sum().backward()
    return [p.grad for p in model.parameters()]


def test_pictures(on_a_gpu):
    gradients = pictures_gradients()
    assert {"unfold_entries", "fold_entries", "group_norm_rows", "group_norm_channels_backward"} <= set(
        on_a_gpu
    )
    with tinygen.kernels("off"):
        expected = pictures_gradients()
    for g, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(g, reference, rtol=1e-4, atol=1e-4)
