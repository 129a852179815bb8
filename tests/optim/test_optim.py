"""Optimizers, schedule, clipping and EMA: one step by hand, invariants, then parity with torch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen.optim
import tinygen.optim.fused
from tinygen import Tensor, nn, ops
from tinygen.optim import EMA, SGD, Adam, AdamW, Optimizer, clip_grad_norm, decay_groups, noam, warmup_cosine


def rng(seed=0):
    return np.random.default_rng(seed)


def parameter(value, grad=None, dtype=np.float64):
    p = nn.Parameter(value, dtype=dtype)
    if grad is not None:
        p.grad = np.array(grad, dtype=dtype)
    return p


def net(dtype=np.float32):
    return nn.Sequential(nn.Linear(4, 8, rng=rng()), ops.tanh, nn.Linear(8, 3, rng=rng(1))).astype(dtype)


def close(actual, expected, rtol=1e-14):
    np.testing.assert_allclose(actual, expected, rtol=rtol)


# -- SGD -------------------------------------------------------------------------------------------


def test_sgd_step_by_hand():
    p = parameter([1.0, 2.0], [10.0, -4.0])
    SGD([p], lr=0.1).step()
    close(p.data, [0.0, 2.4])


def test_sgd_momentum_and_nesterov_by_hand():
    # m: 10, then 0.5·10 + 2 = 7
    p, q = parameter([0.0], [10.0]), parameter([0.0], [10.0])
    heavy, nesterov = SGD([p], lr=0.1, momentum=0.5), SGD([q], lr=0.1, momentum=0.5, nesterov=True)
    heavy.step()
    nesterov.step()
    close(p.data, [-1.0])
    close(q.data, [-0.1 * (10 + 0.5 * 10)])
    p.grad[:] = q.grad[:] = 2
    heavy.step()
    nesterov.step()
    close(p.data, [-1.0 - 0.7])
    close(q.data, [-1.5 - 0.1 * (2 + 0.5 * 7)])


def test_sgd_with_momentum_reaches_terminal_speed():
    """Under a constant gradient the step tends to lr·g / (1 - momentum)."""
    p = parameter([0.0], [3.0])
    optimizer = SGD([p], lr=0.01, momentum=0.9)
    for _ in range(400):
        before = p.data.copy()
        optimizer.step()
    close(before - p.data, [0.01 * 3 / 0.1], rtol=1e-10)


def test_sgd_weight_decay_adds_to_the_gradient():
    p = parameter([2.0], [1.0])
    SGD([p], lr=0.1, weight_decay=0.5).step()
    close(p.data, [2.0 - 0.1 * (1 + 0.5 * 2)])


# -- Adam ------------------------------------------------------------------------------------------


def test_the_first_adam_step_has_the_size_of_lr_in_each_entry():
    g = np.array([1e-3, -5.0, 2e4])
    p = parameter(np.zeros(3), g)
    Adam([p], lr=0.01, eps=0.0).step()
    close(p.data, -0.01 * np.sign(g))


def test_two_adam_steps_by_hand():
    p = parameter([1.0], [2.0])
    optimizer = Adam([p], lr=0.1, betas=(0.8, 0.5), eps=0.01)
    optimizer.step()
    close(p.data, [1 - 0.1 * 2 / (2 + 0.01)])
    p.grad[:] = -1
    optimizer.step()
    m = (0.8 * 0.2 * 2 + 0.2 * -1) / (1 - 0.8**2)
    v = (0.5 * 0.5 * 4 + 0.5 * 1) / (1 - 0.5**2)
    close(p.data, [1 - 0.2 / 2.01 - 0.1 * m / (math.sqrt(v) + 0.01)], rtol=1e-13)


def test_adam_is_blind_to_the_scale_of_the_gradient():
    grads = rng().standard_normal((5, 3))
    results = []
    for scale in (1.0, 1e4):
        p = parameter(np.zeros(3))
        optimizer = Adam([p], eps=0.0)
        for g in grads:
            p.grad = scale * g
            optimizer.step()
        results.append(p.data)
    close(*results, rtol=1e-12)


def test_adamw_decay_is_a_factor_whatever_the_gradient():
    p = parameter([2.0, -3.0], [0.0, 0.0])
    AdamW([p], lr=0.1, weight_decay=0.5).step()
    close(p.data, np.array([2.0, -3.0]) * (1 - 0.1 * 0.5))
    g = [7.0, -0.1]
    with_decay, without = parameter([2.0, -3.0], g), parameter([2.0, -3.0], g)
    AdamW([with_decay], lr=0.1, weight_decay=0.5).step()
    AdamW([without], lr=0.1, weight_decay=0.0).step()
    close(with_decay.data - without.data, -0.05 * np.array([2.0, -3.0]), rtol=1e-12)


def test_adam_decay_goes_through_the_moments():
    p, q = parameter([2.0], [1.0]), parameter([2.0], [1.0 + 0.5 * 2])
    Adam([p], weight_decay=0.5).step()
    Adam([q]).step()
    close(p.data, q.data)


def test_adam_finds_the_minimum_of_a_badly_scaled_bowl():
    scales, target = np.array([100.0, 1.0, 0.01]), np.array([1.0, -2.0, 3.0])
    p = parameter(np.zeros(3))
    optimizer = Adam([p], lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        (scales * np.square(p - target)).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(p.data, target, atol=1e-3)


# -- what all have in common -----------------------------------------------------------------------

MAKERS = {
    "sgd": lambda params: SGD(params, lr=0.05),
    "momentum": lambda params: SGD(params, lr=0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda params: SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda params: Adam(params, lr=0.05, weight_decay=0.1),
    "adamw": lambda params: AdamW(params, lr=0.05, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def train(model, optimizer, steps, start=0):
    for i in range(start, start + steps):
        r = rng(100 + i)
        x = r.standard_normal((6, 4)).astype(model[0].weight.dtype)
        optimizer.zero_grad()
        ops.cross_entropy(model(x), r.integers(0, 3, 6)).backward()
        optimizer.step()


@every_optimizer
def test_updates_are_in_place_and_float32(make):
    model = net()
    arrays = [p.data for p in model.parameters()]
    optimizer = make(model.parameters())
    train(model, optimizer, 3)
    for p, array in zip(model.parameters(), arrays, strict=True):
        assert p.data is array
        assert p.dtype == np.float32
        for moment in optimizer.state.get(p, {}).values():
            assert np.ndim(moment) == 0 or moment.dtype == np.float32


@every_optimizer
def test_large_arrays_go_by_pieces_to_the_same_bits(make, monkeypatch):
    results = []
    for piece in (1 << 15, 7):
        monkeypatch.setattr(tinygen.optim.fused, "PIECE", piece)
        model = net()
        optimizer = make(model.parameters())
        train(model, optimizer, 3)
        results.append(model.state_dict())
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name])


@every_optimizer
def test_every_shape_and_layout_is_updated(make):
    """Numbers, empty arrays, and data or gradients that are not contiguous."""
    value, grad = rng().standard_normal((2, 3, 4))
    plain, strided, scalar = parameter(value, grad), parameter(value, grad), parameter(2.0, 1.0)
    strided.data = np.asfortranarray(value)
    strided.grad = np.asfortranarray(grad)
    empty = parameter(np.zeros((0, 3)), np.zeros((0, 3)))
    make([plain, strided, scalar, empty]).step()
    close(strided.data, plain.data)
    assert (plain.data != value).all()
    assert scalar.shape == ()
    assert scalar.item() < 2
    assert empty.shape == (0, 3)


@every_optimizer
def test_a_step_between_forward_and_backward_is_noticed(make):
    p = nn.Parameter(np.ones(3))
    p.grad = np.ones(3, np.float32)
    loss = (p * p).sum()
    make([p]).step()
    with pytest.raises(RuntimeError, match="was written into"):
        loss.backward()


@every_optimizer
def test_resuming_continues_to_the_same_bits(make):
    straight = net()
    train(straight, make(straight.parameters()), 6)
    first = net()
    optimizer = make(first.parameters())
    train(first, optimizer, 3)
    weights, state = first.state_dict(), optimizer.state_dict()
    train(first, optimizer, 2)  # what was saved does not change any more
    second = net()
    second.load_state_dict(weights)
    resumed = make(second.parameters())
    resumed.load_state_dict(state)
    train(second, resumed, 3, start=3)
    for name, array in straight.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], array)


def test_loading_brings_the_hyperparameters_and_checks_shapes_first():
    model = net()
    optimizer = AdamW(decay_groups(model, 0.1), lr=0.01)
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    assert [g["weight_decay"] for g in state["groups"]] == [0.1, 0.0]
    assert [s["m"].shape for s in state["state"]] == [(8, 4), (3, 8), (8,), (3,)]
    assert [s["step"] for s in state["state"]] == [1, 1, 1, 1]
    other = AdamW(decay_groups(net(), 0.5), lr=0.5)
    other.load_state_dict(state)
    assert other.lr == 0.01
    assert [g["weight_decay"] for g in other.groups] == [0.1, 0.0]
    with pytest.raises(ValueError, match="4 parameters in 2 groups, this optimizer 4 in 1"):
        Adam(net().parameters()).load_state_dict(state)
    with pytest.raises(ValueError, match=r"\['betas', 'eps', 'lr', 'weight_decay'\] are another optimizer's"):
        SGD(decay_groups(net(), 0.5), lr=0.5).load_state_dict(state)
    before = other.state_dict()
    state["groups"][0]["lr"] = 9.0
    state["state"][2]["v"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"v of parameter 2 has shape \(5,\), the parameter \(8,\)"):
        other.load_state_dict(state)
    assert other.lr == 0.01
    close(other.state_dict()["state"][0]["m"], before["state"][0]["m"])


def test_zero_grad_forgets_all_gradients():
    params = [Tensor(np.ones(n, np.float32), requires_grad=True) for n in (2, 3)]
    optimizer = SGD(params, lr=0.1)
    for _ in range(2):  # the second gradient is as long as the first: nothing of it is left
        optimizer.zero_grad()
        assert [p.grad for p in params] == [None, None]
        np.sum(params[0] * 2).backward()
        np.sum(params[1] * 3).backward()
        assert [p.grad.tolist() for p in params] == [[2, 2], [3, 3, 3]]


def test_parameters_without_gradient_stay_and_their_count_starts_later():
    p, q = parameter([1.0], [1.0]), parameter([1.0])
    optimizer = Adam([p, q], lr=0.1, eps=0.0)
    for _ in range(5):
        optimizer.step()
    assert q.data.tolist() == [1.0]
    q.grad = np.array([3.0])
    optimizer.step()
    close(q.data, [0.9])  # its own first step, with its own bias correction
    optimizer.zero_grad()
    assert p.grad is None
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        optimizer.step()


def test_frozen_parameters_are_left_alone():
    model = net()
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    train(model, optimizer, 1)
    before = model[0].freeze().state_dict()
    train(model, optimizer, 2)
    for name, array in model[0].state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_groups_have_their_own_hyperparameters_and_lr_sets_all():
    p, q = parameter([1.0], [1.0]), parameter([1.0], [1.0])
    optimizer = SGD([{"params": [p]}, {"params": (q,), "lr": 0.5}], lr=0.1)
    optimizer.step()
    close(p.data, [0.9])
    close(q.data, [0.5])
    assert optimizer.lr == 0.1
    optimizer.lr = np.float64(0.2)
    assert type(optimizer.lr) is float
    optimizer.step()
    close(p.data, [0.7])
    close(q.data, [0.3])


def test_decay_groups_split_by_the_number_of_axes():
    class Model(nn.Module):
        def __init__(self):
            self.wte = nn.Embedding(5, 4, rng=rng())
            self.conv = nn.Conv1d(2, 2, 3, rng=rng())
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 5, rng=rng())
            self.head.weight = self.wte.weight
            self.frozen = nn.Linear(2, 2, rng=rng()).freeze()
            self.scale = nn.Parameter(np.ones(()))

    model = Model()
    decay, rest = decay_groups(model, 0.1)
    assert decay["weight_decay"] == 0.1
    assert rest["weight_decay"] == 0.0
    assert decay["params"] == [model.wte.weight, model.conv.weight]
    names = {p: name for name, p in model.named_parameters()}
    assert [names[p] for p in rest["params"]] == [
        *("scale", "conv.bias", "norm.weight", "norm.bias", "head.bias"),
    ]
    AdamW(decay_groups(model, 0.1))


@pytest.mark.parametrize(
    ("params", "kwargs", "message"),
    [
        ([], {}, "no parameters to optimize"),
        ((p for p in []), {}, "a generator can be read only once"),
        ([nn.Parameter(1.0)] * 1 + [3.0], {}, "is no tensor"),
        ([nn.Parameter(1.0) * 2], {}, "only leaves"),
        (
            [{"params": [nn.Parameter(1.0)], "weight_decy": 0.1}],
            {},
            r"knows no \['weight_decy'\]; it has \['betas'",
        ),
        ([nn.Parameter(1.0)], {"lr": -1.0}, "lr must not be negative, got -1"),
        ([nn.Parameter(1.0)], {"lr": math.nan}, "lr must not be negative, got nan"),
        ([nn.Parameter(1.0)], {"betas": (0.9, 1.0)}, "betas must be below 1"),
    ],
)
def test_arguments_are_checked(params, kwargs, message):
    with pytest.raises(ValueError, match=message):
        AdamW(params, **kwargs)


def test_the_same_parameter_twice_and_nesterov_without_momentum_are_refused():
    p = nn.Parameter(1.0)
    with pytest.raises(ValueError, match="comes twice"):
        SGD([{"params": [p]}, {"params": [p]}], lr=0.1)
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        SGD([p], lr=0.1, nesterov=True)


def test_a_gradient_of_another_shape_is_refused_before_anything_changes():
    p, q = parameter([1.0], [1.0]), parameter([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"gradient of shape \(1,\) for a parameter of \(2,\)"):
        SGD([p, q], lr=0.5).step()
    close(p.data, [1.0])


def test_state_in_another_layout_goes_on_the_same():
    rows = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    found = []
    for order in "CF":
        p = parameter(rows, rows, dtype=np.float32)
        optimizer = Adam([p], lr=0.1)
        optimizer.size = 2**20  # as of a large model, whose update is a kernel's
        optimizer.step()
        state = optimizer.state_dict()
        for name in "mv":
            state["state"][0][name] = np.asarray(state["state"][0][name], order=order)
        optimizer.load_state_dict(state)
        optimizer.step()
        optimizer.step()
        found.append(p.data)
    np.testing.assert_array_equal(*found)


def test_an_optimizer_of_one_s_own_needs_update_only():
    class SignSGD(Optimizer):
        def update(self, param, grad, state, group):
            param -= group["lr"] * np.sign(grad)

    p = parameter([1.0, 1.0], [5.0, -0.1])
    SignSGD([p], lr=0.5).step()
    close(p.data, [0.5, 1.5])


def test_an_optimizer_that_loses_an_array_is_refused():
    """`update_group` may put other arrays into the list, but one for each parameter."""

    class Short(SGD):
        def update_group(self, params, grads, states, group):
            params.pop()

    with pytest.raises(ValueError, match="zip"):
        Short([parameter([1.0], [5.0]), parameter([1.0], [5.0])], lr=0.5).step()


# -- the schedule ----------------------------------------------------------------------------------


def test_warmup_cosine_at_its_corners():
    def lr(step):
        return warmup_cosine(step, lr=6e-4, min_lr=6e-5, warmup=10, decay_steps=110)

    assert lr(0) == 6e-4 / 11  # not 0: the first step counts
    assert lr(9) == 6e-4 * 10 / 11
    assert lr(10) == 6e-4
    assert lr(60) == pytest.approx((6e-4 + 6e-5) / 2, rel=1e-14)
    assert lr(110) == pytest.approx(6e-5, rel=1e-14)
    assert lr(111) == lr(10**9) == 6e-5
    values = [lr(i) for i in range(130)]
    assert (np.diff(values[:11]) > 0).all()
    assert (np.diff(values[10:111]) < 0).all()
    assert (np.diff(values[110:]) == 0).all()


def test_warmup_cosine_without_warmup_and_out_of_range():
    assert warmup_cosine(0, 1.0, 0.1, warmup=0, decay_steps=4) == 1.0
    assert warmup_cosine(1, 1.0, 0.0, warmup=0, decay_steps=4) == pytest.approx(0.5 + math.sqrt(0.125))
    for warmup in (-1, 4, 5):
        with pytest.raises(ValueError, match=r"warmup must be in \[0, decay_steps\)"):
            warmup_cosine(0, 1.0, 0.1, warmup=warmup, decay_steps=4)


@given(st.integers(0, 500), st.integers(0, 50), st.integers(1, 400), st.floats(0, 1))
def test_warmup_cosine_stays_in_its_range(step, warmup, length, fraction):
    lr = warmup_cosine(step, 1.0, fraction, warmup, warmup + length)
    assert 0 < lr <= 1 if step < warmup else fraction * (1 - 1e-15) <= lr <= 1


def test_noam_is_its_formula():
    close(noam(0, 512), 512**-0.5 * 4000**-1.5)
    close(noam(3999, 512), (512 * 4000) ** -0.5)  # the two terms meet
    close(noam(15_999, 512), 512**-0.5 / math.sqrt(16_000))
    assert noam(3999, 512) == pytest.approx(6.99e-4, rel=1e-3)
    rates = [noam(i, 64, warmup=10) for i in range(50)]
    close(rates[:10], [0.125 * n * 10**-1.5 for n in range(1, 11)])
    close(rates[9:], [0.125 / math.sqrt(n) for n in range(10, 51)])
    assert max(rates) == rates[9]


def test_noam_without_warmup_is_refused():
    with pytest.raises(ValueError, match="warmup must be at least 1 step, got 0"):
        noam(0, 512, warmup=0)
    close(noam(0, 16, warmup=1), 0.25)  # one step: only the fall


# -- clipping --------------------------------------------------------------------------------------


def test_clipping_scales_all_gradients_by_the_same_factor():
    p, q, none = parameter([0.0, 0.0], [3.0, 0.0]), parameter([[0.0]], [[4.0]]), parameter([1.0])
    assert clip_grad_norm([p, q, none], 1.0) == 5.0
    close(p.grad, [3 / (5 + 1e-6), 0.0])
    close(q.grad, [[4 / (5 + 1e-6)]])
    assert none.grad is None
    assert clip_grad_norm(iter([p, q]), 1.0) == pytest.approx(1.0, abs=1e-6)


def test_small_gradients_are_not_clipped():
    p = parameter([0.0, 0.0], [3.0, 4.0])
    assert clip_grad_norm([p], 5.1) == 5.0
    assert p.grad.tolist() == [3.0, 4.0]
    assert clip_grad_norm([parameter([1.0])], 1.0) == 0.0


def test_a_norm_that_is_not_finite_is_returned_and_changes_nothing():
    for bad in (np.nan, np.inf):
        p, q = parameter([0.0, 0.0], [1.0, bad]), parameter([0.0], [5.0])
        assert not math.isfinite(clip_grad_norm([p, q], 1.0))
        np.testing.assert_array_equal(p.grad, [1, bad])
        assert q.grad.item() == 5


def test_a_norm_whose_square_is_beyond_float32():
    p = parameter(np.zeros(2), np.array([3e25, 4e25]), dtype=np.float32)
    assert clip_grad_norm([p], 1.0) == pytest.approx(5e25, rel=1e-6)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


def test_clipping_keeps_float32():
    p = parameter(np.zeros(3), np.full(3, 9.0), dtype=np.float32)
    assert type(clip_grad_norm([p], 1.0)) is float
    assert p.grad.dtype == np.float32


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.floats(1e-3, 1e3))
def test_clipping_never_lengthens_nor_turns_and_ends_below_the_bound(values, max_norm):
    p = parameter(np.zeros(len(values)), values)
    norm = clip_grad_norm([p], max_norm)
    close(norm, np.linalg.norm(values), rtol=1e-10)
    assert np.linalg.norm(p.grad) <= min(norm, max_norm) * (1 + 1e-12)
    close(p.grad * norm, np.array(values) * np.linalg.norm(p.grad), rtol=1e-9)


# -- the average -----------------------------------------------------------------------------------


def one_weight(value):
    model = nn.Module()
    model.w = parameter(value)
    return model


def test_ema_of_a_constant_is_that_constant():
    model = one_weight([3.0, -1.0])
    ema = EMA(model, 0.9)
    for _ in range(20):
        ema.update()
    assert ema.average["w"].tolist() == [3.0, -1.0]


def test_ema_without_warmup_is_a_geometric_sum():
    model = one_weight([0.0])
    ema = EMA(model, 0.9, warmup=False)
    model.w.data = np.array([1.0])
    for _ in range(7):
        ema.update()
    close(ema.average["w"], [1 - 0.9**7], rtol=1e-13)


def test_ema_warms_up_by_1_plus_n_over_10_plus_n():
    model = one_weight([0.0])
    ema = EMA(model, 0.5)
    model.w.data = np.array([1.0])
    rest = 1.0
    for n in range(1, 15):
        rest *= min(0.5, (1 + n) / (10 + n))
        ema.update()
        close(ema.average["w"], [1 - rest], rtol=1e-13)
    assert (1 + 7) / (10 + 7) < 0.5 <= (1 + 8) / (10 + 8)  # both branches were taken


def test_ema_is_swapped_in_and_out_also_after_an_error():
    model = one_weight([0.0])
    ema = EMA(model, 0.9, warmup=False)
    model.w.data = np.array([1.0])
    ema.update()
    own = model.w.data
    with ema.averaged_weights():
        close(model.w.data, [0.1])
        model.w.data -= 5  # changes neither
    assert model.w.data is own
    close(ema.average["w"], [0.1])
    with pytest.raises(KeyError), ema.averaged_weights():
        raise KeyError
    assert model.w.data is own


def test_ema_copies_to_another_model_with_tied_weights():
    class Tied(nn.Module):
        def __init__(self, seed):
            self.a = nn.Linear(2, 2, bias=False, rng=rng(seed))
            self.b = nn.Linear(2, 2, bias=False, rng=rng(seed))
            self.b.weight = self.a.weight

    model, other = Tied(0), Tied(1)
    ema = EMA(model, 0.9)
    assert list(ema.average) == ["a.weight"]
    model.a.weight.data += 1
    ema.update()
    ema.copy_to(other)
    np.testing.assert_array_equal(other.b.weight.data, ema.average["a.weight"])
    assert not np.shares_memory(other.b.weight.data, ema.average["a.weight"])
    assert ema.average["a.weight"].dtype == np.float32
    for wrong in (net(), one_weight([1.0])):
        with pytest.raises(ValueError, match=r"a\.weight"):
            ema.copy_to(wrong)


def test_ema_resumes():
    model = one_weight([0.0])
    ema = EMA(model, 0.9)
    model.w.data = np.array([1.0])
    ema.update()
    state = ema.state_dict()
    ema.update()
    again = EMA(one_weight([7.0]), 0.9)
    again.load_state_dict(state)
    again.params["w"].data = np.array([1.0])
    again.update()
    np.testing.assert_array_equal(again.average["w"], ema.average["w"])
    with pytest.raises(ValueError, match=r"\('w', \(1,\)\)"):
        again.load_state_dict({"updates": 1, "average": {"w": np.zeros(2)}})


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_ema_decay_is_a_probability(decay):
    with pytest.raises(ValueError, match=rf"decay must be in \[0, 1\], got {decay}"):
        EMA(one_weight([0.0]), decay)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_ema_with_the_least_and_the_greatest_decay(decay):
    """0 follows the weights, 1 stays where it began."""
    model = nn.Linear(1, 1, bias=False, rng=0)
    ema, before = EMA(model, decay, warmup=False), model.weight.data
    model.weight.data = before + 1
    ema.update()
    np.testing.assert_array_equal(ema.average["weight"], before + 1 - decay)


# -- parity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.01}),
        ("AdamW", {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-6}),
    ],
)
def test_ten_steps_like_torch_s_with_groups_and_clipping(kind, kwargs, dtype):
    torch = pytest.importorskip("torch")
    model = net(dtype)
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    theirs = theirs.to(getattr(torch, dtype.__name__))
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.3},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = getattr(tinygen.optim, kind)(decay_groups(model, 0.3), **kwargs)
    their_optimizer = getattr(torch.optim, kind)(groups, **kwargs)
    norms = []
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    for step in range(10):
        x = rng(step).standard_normal((6, 4)).astype(dtype)
        y = rng(step).integers(0, 3, 6)
        lr = warmup_cosine(step, kwargs["lr"], 0.0, 3, 10)
        optimizer.lr = lr
        for group in their_optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        their_optimizer.zero_grad()
        loss = ops.cross_entropy(model(x), y)
        their_loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        their_loss.backward()
        norms.append(clip_grad_norm(model.parameters(), 0.4))
        their_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.4)
        close(norms[-1], float(their_norm), rtol=tolerance)
        close(loss.item(), their_loss.item(), rtol=tolerance)
        optimizer.step()
        their_optimizer.step()
    assert min(norms) < 0.4 < max(norms)
    for name, array in model.state_dict().items():
        expected = theirs.state_dict()[name].numpy()
        np.testing.assert_allclose(array, expected, rtol=tolerance, atol=tolerance / 10, err_msg=name)


def test_tensors_that_are_no_parameters_can_be_optimized_too():
    """An image, say, that is to look like something."""
    x = Tensor(np.zeros(3, np.float32), requires_grad=True)
    optimizer = SGD([x], lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        np.square(x - np.array([1, 2, 3], np.float32)).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(x.data, [1, 2, 3], rtol=1e-5)


def test_repr_has_the_hyperparameters_and_sizes_of_each_group():
    w, b = Tensor(np.ones((30, 40)), requires_grad=True), Tensor(np.ones(40), requires_grad=True)
    assert repr(SGD([w, b], lr=0.1)) == (
        "SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0; 2 parameters, 1,240 numbers)"
    )
    lines = repr(SGD([{"params": [w], "lr": 0.2}, {"params": [b]}], lr=0.1)).splitlines()
    assert [line.split(",")[0] for line in lines] == ["SGD(lr=0.2", "SGD(lr=0.1"]
