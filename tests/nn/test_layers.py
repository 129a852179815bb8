"""The layers: closed forms first, then torch.nn with the same weights, values and gradients."""

import numpy as np
import pytest

from tinygen import Tensor, nn, no_grad, ops

DTYPES = [np.float32, np.float64]


def rng(seed=0):
    return np.random.default_rng(seed)


# -- closed forms ----------------------------------------------------------------------------------


def test_linear_is_x_times_the_transposed_weight_plus_bias():
    layer = nn.Linear(3, 2, rng=rng())
    assert layer.weight.shape == (2, 3)
    layer.weight.data = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    layer.bias.data = np.array([10, 20], np.float32)
    x = np.array([[[1, 0, 0], [0, 1, -1]]], np.float32)
    assert layer(x).data.tolist() == [[[11, 24], [9, 19]]]
    assert nn.Linear(3, 2, bias=False, rng=rng()).bias is None


def test_embedding_reads_rows_and_refuses_ids_outside():
    layer = nn.Embedding(4, 3, rng=rng())
    ids = np.array([[0, 3], [3, 1]])
    np.testing.assert_array_equal(layer(ids).data, layer.weight.data[ids])
    layer(ids).sum().backward()
    assert layer.weight.grad[:, 0].tolist() == [1, 1, 0, 2]  # how often each row was read
    for bad in (-1, 4):
        with pytest.raises(IndexError, match=r"must be in \[0, 4\)"):
            layer(np.array([bad]))


def test_norms_standardize_what_they_say():
    x = rng().standard_normal((6, 8, 30), dtype=np.float32) * 3 + 2

    def close(array, value):
        np.testing.assert_allclose(array, value, atol=1e-4)

    y = nn.LayerNorm(30)(x).data
    close(y.mean(axis=-1), 0)
    close(y.var(axis=-1), 1)
    close(np.square(nn.RMSNorm(30)(x).data).mean(axis=-1), 1)
    y = nn.GroupNorm(2, 8)(x).data.reshape(6, 2, 4 * 30)
    close(y.mean(axis=-1), 0)
    close(y.var(axis=-1), 1)
    y = nn.BatchNorm(8)(x).data
    close(y.mean(axis=(0, 2)), 0)
    close(y.var(axis=(0, 2)), 1)


def test_group_norm_needs_equal_groups():
    for groups in (3, 0, -2):
        with pytest.raises(ValueError, match="8 channels cannot be split"):
            nn.GroupNorm(groups, 8)


def test_batch_norm_keeps_unbiased_running_statistics_by_torch_s_momentum():
    layer = nn.BatchNorm(2, momentum=0.25)
    x = np.array([[1.0, 10.0], [3.0, 20.0]], np.float32)
    layer(x)
    # mean (2, 15); unbiased variance (2, 50)
    np.testing.assert_allclose(layer.running_mean.data, [0.25 * 2, 0.25 * 15])
    np.testing.assert_allclose(layer.running_var.data, [0.75 + 0.25 * 2, 0.75 + 0.25 * 50])
    assert layer.running_mean.dtype == np.float32


def test_batch_norm_in_eval_mode_uses_the_running_statistics_and_leaves_them():
    layer = nn.BatchNorm(2).eval()
    layer.running_mean.data = np.array([1.0, 2.0], np.float32)
    layer.running_var.data = np.array([4.0, 9.0], np.float32)
    x = rng().standard_normal((1, 2, 3), dtype=np.float32)  # one sample is enough
    before = layer.state_dict()
    expected = (x - np.array([1, 2]).reshape(2, 1)) / np.sqrt(np.array([4, 9]).reshape(2, 1) + 1e-5)
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-5)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_batch_norm_settles_on_the_statistics_of_constant_input_distribution():
    layer = nn.BatchNorm(3)
    x = rng().standard_normal((50, 3), dtype=np.float32) * 2 + 1
    for _ in range(300):  # 0.9^300 of the start is left: 2e-14
        layer(x)
    np.testing.assert_allclose(layer.running_mean.data, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.data, x.var(axis=0, ddof=1), rtol=1e-5)


def test_batch_norm_refuses_to_train_on_one_value_per_channel():
    layer = nn.BatchNorm(3)
    with pytest.raises(ValueError, match=r"shape \(1, 3\) has 1 value\(s\) per channel"):
        layer(np.zeros((1, 3), np.float32))
    assert layer.running_var.data.tolist() == [1, 1, 1]
    layer(np.zeros((1, 3, 2), np.float32))


def test_batch_norm_statistics_take_no_gradient():
    layer = nn.BatchNorm(2)
    x = Tensor(rng().standard_normal((4, 2), dtype=np.float32), requires_grad=True)
    layer(layer(x)).sum().backward()
    assert not layer.running_mean.requires_grad
    assert layer.running_mean.grad is None


def test_dropout_is_the_identity_in_eval_mode_and_at_zero():
    x = Tensor(np.ones((3, 4), np.float32))
    assert nn.Dropout(0.5, rng=rng()).eval()(x) is x
    assert nn.Dropout(0.0, rng=rng())(x) is x


def test_dropout_keeps_the_mean_and_drops_by_its_generator():
    p, n = 0.3, 100_000
    x = Tensor(np.ones(n, np.float32), requires_grad=True)
    layer = nn.Dropout(p, rng=rng(1))
    y = layer(x)
    assert set(np.unique(y.data)) == {np.float32(0), np.float32(1 / (1 - p))}
    # The number dropped is binomial: 5 standard deviations, a false alarm once in 1.7 million.
    assert abs((y.data == 0).sum() - p * n) < 5 * np.sqrt(n * p * (1 - p))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)  # the same mask on the way back
    assert (layer(x).data != y.data).any()  # another mask each time
    np.testing.assert_array_equal(nn.Dropout(p, rng=rng(1))(x).data, y.data)  # the same by the same seed


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_dropout_needs_a_probability_below_one(p):
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        nn.Dropout(p, rng=rng())


def test_conv_layers_say_what_is_wrong_with_their_arguments():
    with pytest.raises(ValueError, match="3 channels in and 4 out cannot be split into 2"):
        nn.Conv1d(3, 4, 3, groups=2, rng=rng())
    with pytest.raises(ValueError, match="one number or 2"):
        nn.Conv2d(3, 4, (3,), rng=rng())


def test_conv_layers_as_text():
    assert repr(nn.Conv1d(3, 4, 5, rng=rng())).startswith("Conv1d(3, 4, kernel_size=5)  ")
    assert repr(nn.Conv2d(3, 4, (1, 2), rng=rng())).startswith("Conv2d(3, 4, kernel_size=(1, 2))  ")
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2, bias=False, rng=rng())
    options = "kernel_size=3, stride=2, padding=1, dilation=2, groups=2, bias=False"
    assert repr(layer).startswith(f"Conv2d(2, 4, {options})  ")


def test_convolution_by_one_is_a_linear_layer_of_the_channels():
    conv, linear = nn.Conv2d(3, 4, 1, rng=rng()), nn.Linear(3, 4, rng=rng())
    conv.load_state_dict({"weight": linear.weight.data[:, :, None, None], "bias": linear.bias.data})
    x = rng(1).standard_normal((2, 5, 6, 3), dtype=np.float32)
    ours = conv(x.transpose(0, 3, 1, 2)).data.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, linear(x).data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2])
def test_transposed_convolution_is_the_gradient_of_convolution(dims):
    """<conv(x), y> = <x, conv_transpose(y)> for the same weights."""
    forth, back = ((nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d))[dims - 1]
    kwargs = {"stride": 2, "padding": 1, "groups": 2, "bias": False, "rng": rng()}
    a, b = forth(4, 6, 3, **kwargs).astype(np.float64), back(6, 4, 3, **kwargs).astype(np.float64)
    b.weight.data = a.weight.data
    x = rng(1).standard_normal((2, 4, *[7] * dims))
    y = rng(2).standard_normal(a(x).shape)
    assert b(y).shape == x.shape
    np.testing.assert_allclose((a(x).data * y).sum(), (x * b(y).data).sum(), rtol=1e-12)


# -- parity ----------------------------------------------------------------------------------------

IMAGE, LINE, TOKENS = (3, 4, 6, 5), (3, 4, 7), (2, 5, 4)
CASES = {
    "linear": (lambda r: nn.Linear(4, 6, rng=r), lambda t: t.Linear(4, 6), TOKENS),
    "linear without bias": (
        lambda r: nn.Linear(4, 6, bias=False, rng=r),
        lambda t: t.Linear(4, 6, bias=False),
        TOKENS,
    ),
    "layer norm": (lambda r: nn.LayerNorm(4), lambda t: t.LayerNorm(4), TOKENS),
    "layer norm without bias": (
        lambda r: nn.LayerNorm(4, bias=False),
        lambda t: t.LayerNorm(4, bias=False),
        TOKENS,
    ),
    "rms norm": (lambda r: nn.RMSNorm(4), lambda t: t.RMSNorm(4, eps=1e-6), TOKENS),
    "group norm": (lambda r: nn.GroupNorm(2, 4), lambda t: t.GroupNorm(2, 4), IMAGE),
    "batch norm of rows": (lambda r: nn.BatchNorm(4), lambda t: t.BatchNorm1d(4), (6, 4)),
    "batch norm of images": (lambda r: nn.BatchNorm(4), lambda t: t.BatchNorm2d(4), IMAGE),
    "conv1d": (
        lambda r: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=3, rng=r),
        lambda t: t.Conv1d(4, 6, 3, stride=2, padding=2, dilation=3),
        LINE,
    ),
    "conv2d": (lambda r: nn.Conv2d(4, 6, 3, padding=1, rng=r), lambda t: t.Conv2d(4, 6, 3, padding=1), IMAGE),
    "conv2d of odd shape": (
        lambda r: nn.Conv2d(
            4, 6, (2, 3), stride=(2, 1), padding=(0, 1), dilation=2, groups=2, bias=False, rng=r
        ),
        lambda t: t.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(0, 1), dilation=2, groups=2, bias=False),
        IMAGE,
    ),
    "conv transpose 1d": (
        lambda r: nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, dilation=2, rng=r),
        lambda t: t.ConvTranspose1d(4, 6, 4, stride=2, padding=1, dilation=2),
        LINE,
    ),
    "conv transpose 2d": (
        lambda r: nn.ConvTranspose2d(4, 6, 3, stride=2, dilation=2, groups=2, rng=r),
        lambda t: t.ConvTranspose2d(4, 6, 3, stride=2, dilation=2, groups=2),
        IMAGE,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_parity_with_torch(name, dtype):
    torch = pytest.importorskip("torch")
    make, make_theirs, shape = CASES[name]
    ours = make(rng()).astype(dtype)
    theirs = make_theirs(torch.nn).to(getattr(torch, dtype.__name__))
    state = {
        k: (rng(len(k)).standard_normal(v.shape) + 1).astype(dtype) for k, v in ours.state_dict().items()
    }
    state = {k: np.abs(v) if k == "running_var" else v for k, v in state.items()}
    ours.load_state_dict(state)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    tolerance = {"rtol": 2e-4, "atol": 2e-5} if dtype is np.float32 else {"rtol": 1e-10, "atol": 1e-11}
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        x = rng(7).standard_normal(shape).astype(dtype)
        tx = torch.tensor(x, requires_grad=True)
        x = Tensor(x, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        np.testing.assert_allclose(y.data, ty.detach().numpy(), **tolerance)
        g = rng(8).standard_normal(y.shape).astype(dtype)
        ours.zero_grad()
        theirs.zero_grad()
        y.backward(g)
        ty.backward(torch.tensor(g))
        assert y.dtype == x.grad.dtype == dtype
        np.testing.assert_allclose(x.grad, tx.grad.numpy(), **tolerance)
        gradients = dict(theirs.named_parameters())
        for key, p in ours.named_parameters():
            np.testing.assert_allclose(p.grad, gradients[key].grad.numpy(), **tolerance, err_msg=key)
        for key, array in ours.state_dict().items():  # running statistics too
            np.testing.assert_allclose(array, theirs.state_dict()[key].numpy(), **tolerance, err_msg=key)


def test_parity_of_embedding_with_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(7, 3, rng=rng()), torch.nn.Embedding(7, 3)
    theirs.load_state_dict({"weight": torch.tensor(ours.weight.data)})
    ids = rng(1).integers(0, 7, (4, 5))
    g = rng(2).standard_normal((4, 5, 3), dtype=np.float32)
    y, ty = ours(ids), theirs(torch.tensor(ids))
    np.testing.assert_array_equal(y.data, ty.detach().numpy())
    y.backward(g)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


# -- dtypes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_float32_stays_float32_and_no_grad_records_nothing(name):
    make, _, shape = CASES[name]
    layer = make(rng())
    assert {a.dtype for a in layer.state_dict().values()} == {np.dtype(np.float32)}
    x = rng(1).standard_normal(shape, dtype=np.float32)
    for mode in (True, False):
        y = layer.train(mode)(x)
        assert y.dtype == np.float32
        (y * y).sum().backward()
        assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
    with no_grad():
        assert not layer(x).requires_grad
    assert {a.dtype for a in layer.state_dict().values()} == {np.dtype(np.float32)}
    assert ops.sum(layer(x.astype(np.float64))).dtype == np.float32  # arrays adopt the parameters' dtype


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_batch_norm_leaves_a_batch_with_a_nan_out_of_its_running_statistics(bad):
    layer, x = nn.BatchNorm(2), np.random.default_rng(0).standard_normal((4, 2), dtype=np.float32)
    layer(x)
    mean, var = layer.running_mean.data.copy(), layer.running_var.data.copy()
    x[0, 0] = bad
    with np.errstate(invalid="ignore"):
        assert np.isnan(layer(x).numpy()).any()
    np.testing.assert_array_equal(layer.running_mean.data, mean)
    np.testing.assert_array_equal(layer.running_var.data, var)
