"""Module: the tree of parameters, its names, saving and loading, moving and printing."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import Tensor, nn, no_grad, ops
from tinygen.nn.module import cast
from tinygen.optim import SGD


class Net(nn.Module):
    """One of everything: parameters of its own, a branch, a list, a buffer, a constant, a tied weight."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.first = nn.Linear(3, 4, rng=rng)
        self.scale = nn.Parameter(np.ones(4))
        self.register_buffer("steps", np.zeros(1, dtype=np.int64))
        self.norm = nn.BatchNorm(4)
        self.constant = Tensor(np.full(4, 2.0, np.float32))
        self.rest = nn.ModuleList(nn.Linear(4, 4, bias=False, rng=rng) for _ in range(2))
        self.last = nn.Linear(4, 3, rng=rng)
        self.tied = nn.Linear(4, 4, bias=False, rng=rng)
        self.tied.weight = self.rest[0].weight

    def forward(self, x):
        x = self.norm(self.first(x)) * self.scale * self.constant
        for layer in self.rest:
            x = ops.tanh(layer(x))
        return self.last(self.tied(x))


PARAMETERS = {
    "scale": (4,),
    "first.weight": (4, 3),
    "first.bias": (4,),
    "norm.weight": (4,),
    "norm.bias": (4,),
    "rest.0.weight": (4, 4),
    "rest.1.weight": (4, 4),
    "last.weight": (3, 4),
    "last.bias": (3,),
}


def x32(shape=(5, 3), seed=1):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# -- parameters and buffers ------------------------------------------------------------------------


def test_a_parameter_is_a_float32_leaf_that_requires_grad_and_copies_its_array():
    array = np.arange(3.0)
    p = nn.Parameter(array)
    assert p.dtype == np.float32
    assert p.requires_grad
    assert p.node is None
    p.data -= 1
    assert array.tolist() == [0, 1, 2]
    same = np.zeros(2, np.float32)
    assert not np.shares_memory(nn.Parameter(same).data, same)
    assert nn.Parameter(array, dtype=np.float64).dtype == np.float64
    assert nn.Parameter(np.ones((3, 2)).T).data.flags.c_contiguous
    assert nn.Parameter([1, 2]).dtype == np.float32
    with pytest.raises(TypeError, match="only floating-point"):
        nn.Parameter([1, 2], dtype=np.int64)


def test_named_parameters_are_found_in_the_tree_parents_first_and_tied_ones_once():
    net = Net()
    found = {name: p.shape for name, p in net.named_parameters()}
    assert found == PARAMETERS
    assert list(found) == list(PARAMETERS)
    assert [p.shape for p in net.parameters()] == list(PARAMETERS.values())
    assert net.num_parameters() == sum(np.prod(s) for s in PARAMETERS.values())


def test_named_buffers_and_modules():
    net = Net()
    assert [name for name, _ in net.named_buffers()] == ["steps", "norm.running_mean", "norm.running_var"]
    assert not any(b.requires_grad for _, b in net.named_buffers())
    names = ["", "first", "norm", "rest", "rest.0", "rest.1", "last", "tied"]
    assert [name for name, _ in net.named_modules()] == names
    net.again = net.first  # a shared module comes once as well
    assert [name for name, _ in net.named_modules()] == names


def test_names_and_order_are_those_of_torch():
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 4)
            self.scale = torch.nn.Parameter(torch.ones(4))
            self.norm = torch.nn.LayerNorm(4)
            self.rest = torch.nn.ModuleList(torch.nn.Linear(4, 4, bias=False) for _ in range(2))
            self.steps = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
            self.tied = torch.nn.Linear(4, 4, bias=False)
            self.tied.weight = self.rest[0].weight

    class Ours(nn.Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.first = nn.Linear(3, 4, rng=rng)
            self.scale = nn.Parameter(np.ones(4))
            self.norm = nn.LayerNorm(4)
            self.rest = nn.ModuleList(nn.Linear(4, 4, bias=False, rng=rng) for _ in range(2))
            self.steps = nn.Sequential(nn.Linear(4, 4, rng=rng), ops.tanh, nn.Linear(4, 4, rng=rng))
            self.tied = nn.Linear(4, 4, bias=False, rng=rng)
            self.tied.weight = self.rest[0].weight

    ours, theirs = Ours(), Theirs()
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules() if n != "steps.1"] == [
        n for n, _ in theirs.named_modules() if n != "steps.1"
    ]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())


# -- assigning attributes --------------------------------------------------------------------------


def test_nothing_needs_super_init():
    class Bare(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(np.ones(2))

    class Polite(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(np.ones(2))

    for kind in (Bare, Polite):
        net = kind()
        assert [n for n, _ in net.named_parameters()] == ["w"]
        assert net.training


@pytest.mark.parametrize("name", ["scale", "steps"])
def test_a_parameter_or_buffer_cannot_be_lost_by_assigning_something_else(name):
    net = Net()
    with pytest.raises(TypeError, match=rf"self\.{name}\.data = array"):
        setattr(net, name, getattr(net, name) * 2)
    with pytest.raises(TypeError, match="ndarray in its place"):
        setattr(net, name, np.ones(4))
    setattr(net, name, None)
    assert name not in net.state_dict()


def test_register_buffer_takes_arrays_and_tensors_and_can_be_repeated():
    net = Net()
    for value in (np.ones(2), Tensor(np.ones(2))):
        net.register_buffer("mean", value)
        assert net.state_dict()["mean"].tolist() == [1, 1]
    net.register_buffer("mean", np.zeros(3))
    assert net.mean.shape == (3,)


def test_forward_must_be_defined():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty defines no forward"):
        Empty()(1)


# -- lists -----------------------------------------------------------------------------------------


def test_module_list():
    rng = np.random.default_rng(0)
    layers = [nn.Linear(2, 2, rng=rng) for _ in range(12)]
    held = nn.ModuleList(layers)
    assert len(held) == 12
    assert list(held) == layers
    assert held[-1] is layers[-1]
    assert held[10] is layers[10]
    new = nn.LayerNorm(2)
    held[-1] = new
    assert held[11] is new
    assert [n for n, _ in held.named_children()] == [str(i) for i in range(12)]
    for i in (12, -13):
        with pytest.raises(IndexError):
            held[i]
        with pytest.raises(IndexError):
            held[i] = new
    with pytest.raises(TypeError, match="holds modules, this is a function"):
        held.append(ops.relu)


def test_sequential_composes_modules_and_functions():
    rng = np.random.default_rng(0)
    a, b = nn.Linear(3, 4, rng=rng), nn.Linear(4, 2, rng=rng)
    net = nn.Sequential(a, ops.silu, b)
    x = x32()
    np.testing.assert_array_equal(net(x).data, b(ops.silu(a(x))).data)
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert nn.Sequential()(x) is x
    with pytest.raises(TypeError, match="modules and functions, this is a int"):
        nn.Sequential(a, 3)


# -- training, freezing, moving --------------------------------------------------------------------


def test_train_and_eval_reach_every_module():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for _, m in net.named_modules())
    assert all(m.training for _, m in net.train().named_modules())


def test_eval_mode_returns_each_module_to_its_own_mode():
    """Also after an error, and where some modules were in evaluation mode already."""
    net = Net().train()
    net.norm.eval()
    before = [module.training for _, module in net.named_modules()]
    assert len(set(before)) == 2
    with net.eval_mode() as inside:
        assert inside is net
        assert not any(module.training for _, module in net.named_modules())
    assert [module.training for _, module in net.named_modules()] == before
    with pytest.raises(ZeroDivisionError), net.eval_mode():
        1 / 0  # noqa: B018
    assert [module.training for _, module in net.named_modules()] == before


def test_frozen_parameters_take_no_gradient_and_lose_what_they_had():
    net = Net()
    net(x32()).sum().backward()
    net.first.freeze()
    assert net.first.weight.grad is None
    net.zero_grad()
    net(x32()).sum().backward()
    with_gradient = {name for name, p in net.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n in PARAMETERS if not n.startswith("first")}
    assert not net.freeze()(x32()).requires_grad
    assert all(p.requires_grad for p in net.unfreeze().parameters())
    assert not any(b.requires_grad for _, b in net.named_buffers())


def test_a_tied_weight_receives_the_gradients_of_both_uses():
    rng = np.random.default_rng(0)
    v, c = 5, 3
    ids = np.array([[0, 2, 2, 4]])
    weight = rng.standard_normal((v, c))
    g = rng.standard_normal((1, 4, v))

    class Tied(nn.Module):
        def __init__(self, tie):
            self.wte = nn.Embedding(v, c, rng=rng)
            self.head = nn.Linear(c, v, bias=False, rng=rng)
            if tie:
                self.head.weight = self.wte.weight
            self.astype(np.float64)
            self.load_state_dict({"wte.weight": weight, "head.weight": weight})

        def forward(self, ids):
            return self.head(self.wte(ids))

    tied, apart = Tied(True), Tied(False)
    for net in (tied, apart):
        net(ids).backward(g)
    both = apart.wte.weight.grad + apart.head.weight.grad
    assert apart.wte.weight.grad.any()
    assert apart.head.weight.grad.any()
    np.testing.assert_allclose(tied.wte.weight.grad, both, rtol=1e-14)
    assert len(list(tied.parameters())) == 1
    SGD(tied.parameters(), lr=0.5).step()  # one step for both, once
    np.testing.assert_allclose(tied.head.weight.data, weight - 0.5 * both, rtol=1e-13)


def test_astype_casts_in_place_keeps_ties_and_drops_gradients():
    net = Net()
    net(x32()).sum().backward()
    weight = net.first.weight
    assert net.astype(np.float64) is net
    assert net.first.weight is weight
    assert net.tied.weight is net.rest[0].weight
    assert {p.dtype for p in net.parameters()} == {np.dtype(np.float64)}
    assert all(p.grad is None for p in net.parameters())
    assert net.norm.running_mean.dtype == np.float64
    assert net.constant.dtype == np.float64
    assert net.steps.dtype == np.int64
    out = net(x32().astype(np.float64))
    assert out.dtype == np.float64
    out.sum().backward()
    assert {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float64)}


def test_astype_between_forward_and_backward_is_noticed():
    net = Net()
    loss = net(x32()).sum()
    net.astype(np.float64)
    with pytest.raises(RuntimeError, match="was written into between forward and backward"):
        loss.backward()


def test_a_cached_result_on_the_tape_is_left_alone_by_astype():
    net = Net()
    net.last_output = net(x32())
    net.astype(np.float64)
    assert net.last_output.dtype == np.float32


def test_to_the_same_device_changes_no_value_and_no_tie():
    net = Net()
    before = net.state_dict()
    assert net.to("cpu") is net
    assert net.tied.weight is net.rest[0].weight
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="unknown device"):
        net.to("tpu")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_independent_and_tied_as_before(duplicate):
    net = Net()
    net(x32()).sum().backward()
    other = duplicate(net)
    assert other.tied.weight is other.rest[0].weight
    np.testing.assert_array_equal(other.eval()(x32()).data, net.eval()(x32()).data)
    before = net.first.weight.data.copy()
    other.first.weight.data -= 1
    np.testing.assert_array_equal(net.first.weight.data, before)


# -- saving and loading ----------------------------------------------------------------------------


def test_state_dict_round_trip_and_copies():
    a, b = Net(0), Net(1)
    a(x32())  # moves the running statistics
    state = a.state_dict()
    assert {name: array.shape for name, array in state.items()} == {
        **PARAMETERS,
        "steps": (1,),
        "norm.running_mean": (4,),
        "norm.running_var": (4,),
        "tied.weight": (4, 4),
    }
    assert b.load_state_dict(state) == ([], [])
    with no_grad():
        np.testing.assert_array_equal(a.eval()(x32()).data, b.eval()(x32()).data)
    state["scale"] += 1  # what was saved, and what was loaded, belong to nobody else
    assert a.scale.data.tolist() == b.scale.data.tolist() == [1, 1, 1, 1]
    assert b.tied.weight is b.rest[0].weight


@pytest.mark.parametrize(
    ("name", "array", "kind"),
    [
        ("weight", np.ones((2, 3)) + 1j, "complex128"),
        ("count", np.array([0.5, 1]), "float64"),
        ("count", np.array([np.nan, 1]), "float64"),
    ],
)
def test_numbers_of_another_kind_are_refused_and_nothing_changes(name, array, kind):
    model = nn.Linear(3, 2, rng=np.random.default_rng(0))
    model.register_buffer("count", np.array([1, 2]))
    before, state = model.state_dict(), model.state_dict()
    state = {key: a + 1 for key, a in state.items()} | {name: array}
    with pytest.raises(ValueError, match=f"wrong dtype: {name} is .* here, {kind} in the state"):
        model.load_state_dict(state)
    assert repr(model.state_dict()) == repr(before)


def test_loading_casts_to_each_tensor_s_dtype():
    net = Net().astype(np.float64)
    net.load_state_dict(Net(1).state_dict())
    assert net.first.weight.dtype == np.float64
    state = {name: array.astype(np.float64) for name, array in Net(2).state_dict().items()}
    other = Net()
    other.load_state_dict(state)
    assert other.first.weight.dtype == np.float32
    assert other.steps.dtype == np.int64


def test_loading_lists_every_mismatch_and_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = {name: array + 1 for name, array in Net(1).state_dict().items()}
    del state["scale"], state["last.bias"]
    state["first.weight"] = state["first.weight"].T
    state["norm.bias"] = np.zeros(())
    state["tied.weight"] = state["tied.weight"] * 2
    state["extra"] = np.zeros((7,))
    with pytest.raises(ValueError, match="does not fit this Net") as caught:
        net.load_state_dict(state)
    assert lines(caught) == [
        "  missing: scale (4,)",
        "  missing: last.bias (3,)",
        "  unexpected: extra (7,)",
        "  wrong shape: first.weight is (4, 3) here, (3, 4) in the state",
        "  wrong shape: norm.bias is (4,) here, () in the state",
        "  two values: tied.weight is tied to rest.0.weight here, and differs in the state",
    ]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


UNTIED = [name for name in Net().state_dict() if name not in ("rest.0.weight", "tied.weight")]


@given(st.dictionaries(st.sampled_from(UNTIED), st.sampled_from(["missing", "wrong shape"]), min_size=1))
def test_every_damage_to_a_state_is_named_and_nothing_else(damage):
    state = Net().state_dict()
    for name, kind in damage.items():
        if kind == "missing":
            del state[name]
        else:
            state[name] = np.zeros((9, *state[name].shape))
    with pytest.raises(ValueError, match="does not fit") as caught:
        Net(1).load_state_dict(state)
    named = {line.split(":")[1].split()[0]: line.split(":")[0].strip() for line in lines(caught)}
    assert named == damage
    assert len(lines(caught)) == len(damage)


def lines(caught):
    return str(caught.value).splitlines()[1:]


def test_loading_what_is_no_number_changes_nothing():
    net = Net()
    before = net.state_dict()
    state = {**Net(1).state_dict(), "last.bias": np.array(["a", "b", "c"])}
    with pytest.raises(ValueError, match="could not convert"):
        net.load_state_dict(state)
    np.testing.assert_array_equal(net.scale.data, before["scale"])
    np.testing.assert_array_equal(net.first.weight.data, before["first.weight"])


def test_loading_not_strictly_says_what_was_left_out_but_still_refuses_wrong_shapes():
    net = Net()
    assert net.load_state_dict({"scale": np.zeros(4), "extra": np.zeros(1)}, strict=False) == (
        [n for n in net.state_dict() if n != "scale"],
        ["extra"],
    )
    assert net.scale.data.tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="wrong shape: scale"):
        net.load_state_dict({"scale": np.zeros(5)}, strict=False)


def test_a_tied_weight_may_be_saved_under_one_of_its_names():
    state = Net(1).state_dict()
    for name in ("rest.0.weight", "tied.weight"):
        net = Net()
        net.load_state_dict({k: v for k, v in state.items() if k != name})
        np.testing.assert_array_equal(net.tied.weight.data, state["tied.weight"])


def test_a_nan_in_a_tied_weight_is_the_same_in_both_copies():
    net = Net()
    net.tied.weight.data[0, 0] = np.nan
    twin = Net(1)
    assert twin.load_state_dict(net.state_dict()) == ([], [])
    np.testing.assert_array_equal(twin.tied.weight.data, net.tied.weight.data)


def test_loaded_arrays_lie_row_by_row():
    """As those that a layer makes, whatever order the file had."""
    layer = nn.Linear(3, 4, rng=np.random.default_rng(0))
    layer.load_state_dict({name: np.asfortranarray(a) for name, a in layer.state_dict().items()})
    assert layer.weight.data.flags.c_contiguous


def test_what_needs_no_cast_is_not_copied():
    x, z = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2, np.complex128))
    assert [cast(y, x) is y for y in (x, x.data, z)] == [True, True, True]
    assert cast(np.ones(2), x).dtype == np.float32


# -- printing --------------------------------------------------------------------------------------


def test_repr_is_the_tree_with_arguments_and_counts():
    class Model(nn.Module):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.wte = nn.Embedding(10, 8, rng=rng)
            self.position = nn.Parameter(np.zeros((4, 8)))
            self.blocks = nn.ModuleList(nn.Block(8, 2, causal=True, dropout=0.1, rng=rng) for _ in range(3))
            self.net = nn.Sequential(nn.Linear(8, 8, bias=False, rng=rng), ops.silu, nn.GroupNorm(2, 8))
            self.conv = nn.Conv2d(8, 4, 3, stride=2, padding=1, rng=rng)
            self.head = nn.Linear(8, 10, bias=False, rng=rng)
            self.head.weight = self.wte.weight

    assert repr(Model()).splitlines() == [
        "Model                                                     3,100 parameters",
        "  wte: Embedding(10, 8)                                   80",
        "  position: Parameter(4, 8)                               32",
        "  blocks: ModuleList                                      2,616",
        "    0 to 2: 3 × Block                                     3 × 872",
        "      ln1: LayerNorm(8)                                   16",
        "      attn: MultiHeadAttention(8, heads=2, causal)        288",
        "        qkv: Linear(8, 24)                                216",
        "        proj: Linear(8, 8)                                72",
        "      ln2: LayerNorm(8)                                   16",
        "      mlp: MLP                                            552",
        "        fc: Linear(8, 32)                                 288",
        "        proj: Linear(32, 8)                               264",
        "      dropout: Dropout(0.1)",
        "  net: Sequential                                         80",
        "    0: Linear(8, 8, bias=False)                           64",
        "    1: silu",
        "    2: GroupNorm(2, 8)                                    16",
        "  conv: Conv2d(8, 4, kernel_size=3, stride=2, padding=1)  292",
        "  head: Linear(8, 10, bias=False)                         80",
    ]


def test_two_neighbors_share_a_line():
    assert repr(nn.Sequential(nn.RMSNorm(3), nn.RMSNorm(3))).splitlines() == [
        "Sequential                6 parameters",
        "  0 to 1: 2 × RMSNorm(3)  2 × 3",
    ]


def test_repr_of_one_layer():
    rng = np.random.default_rng(0)
    assert repr(nn.Linear(3, 4, rng=rng)) == "Linear(3, 4)  16 parameters"
    assert repr(nn.RMSNorm(3)) == "RMSNorm(3)  3 parameters"
