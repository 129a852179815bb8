"""Modules and parameters inside a module: found if they have a name in the tree, otherwise refused with the
attribute's name."""

import collections
import copy
import dataclasses
import functools
import pickle
import weakref

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn, ops
from tinygen.optim import SGD

Pair = collections.namedtuple("Pair", "left right")


def linear(seed=0):
    return nn.Linear(2, 2, rng=np.random.default_rng(seed))


class Net(nn.Module):
    """Made of whatever is given to it, as attributes."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        for _, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                x = ops.tanh(layer(x))
        for _, p in self.named_parameters():
            if p.ndim == 1 and p.size == 1:
                x = x * p
        return x


def parameter():
    return nn.Parameter([0.5])


GROWN = {
    "a list": (lambda: [linear(0), linear(1)], ["a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias"]),
    "a tuple": (lambda: (linear(), parameter()), ["a.1", "a.0.weight", "a.0.bias"]),
    "a named tuple": (lambda: Pair(None, linear()), ["a.1.weight", "a.1.bias"]),
    "a dict": (lambda: {"up": linear(), 3: parameter()}, ["a.3", "a.up.weight", "a.up.bias"]),
    "an ordered one": (lambda: collections.OrderedDict(b=parameter(), a=parameter()), ["a.b", "a.a"]),
    "one with a default": (lambda: collections.defaultdict(list, x=[parameter()]), ["a.x.0"]),
    "lists in lists": (lambda: [[], [[parameter()], {"k": (linear(),)}]], ["a.1.0.0", "a.1.1.k.0.weight"]),
    "among other things": (lambda: [1, "two", None, np.ones(3), ops.relu, parameter()], ["a.5"]),
    "buffers": (lambda: [nn.Buffer(np.ones(1)), {"b": nn.Buffer(np.zeros(2))}], ["a.0", "a.1.b"]),
}


@pytest.mark.parametrize("name", GROWN)
def test_lists_tuples_and_dicts_are_found_with_the_names_of_their_items(name):
    make, names = GROWN[name]
    net = Net(a=make())
    found = list(net.state_dict())
    assert found[: len(names)] == names
    assert set(found) == {n for n, _ in net.named_parameters()} | {n for n, _ in net.named_buffers()}
    other = Net(a=make())
    other.load_state_dict({n: x + 1 for n, x in net.state_dict().items()})
    for n, x in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[n], x + 1)
    net.astype(np.float64)
    assert all(x.dtype == np.float64 for x in net.state_dict().values())
    for duplicate in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)) if "other" not in name else net):
        assert list(duplicate.state_dict()) == found


def test_a_list_that_grows_is_trained_and_saved():
    """The commonest way to write it."""

    class Grown(nn.Module):
        def __init__(self):
            self.blocks = []
            for i in range(2):
                self.blocks.append(linear(i))
            self.heads = {}
            self.heads["left"] = [linear(3)]

        def forward(self, x):
            for block in self.blocks:
                x = ops.tanh(block(x))
            return self.heads["left"][0](x)

    net, x = Grown(), np.ones((3, 2), np.float32)
    net(x)
    net.blocks.append(linear(4))  # after the first use
    net.eval()
    assert not net.blocks[2].training
    before = net.state_dict()
    assert list(before)[-2:] == ["heads.left.0.weight", "heads.left.0.bias"]
    assert len(before) == 8
    net(x).sum().backward()
    SGD(net.parameters(), lr=0.1).step()
    after = net.state_dict()
    assert all(not np.array_equal(before[n], after[n]) for n in before)
    net.freeze()
    assert not net.blocks[2].weight.requires_grad
    assert "  blocks.0 to blocks.2: 3 × Linear(2, 2)" in repr(net)
    assert gradcheck(Grown(), np.linspace(-1, 1, 4).reshape(2, 2))


def test_shared_ones_come_once_among_the_parameters_and_under_each_name_in_the_state():
    layer = linear()
    net = Net(a=[layer, layer], b=layer.weight)
    assert [n for n, _ in net.named_parameters()] == ["b", "a.0.bias"]
    assert list(net.state_dict()) == ["b", "a.0.weight", "a.0.bias", "a.1.weight", "a.1.bias"]


def test_generators_in_lists_are_part_of_the_state():
    net = Net(noise=[np.random.default_rng(0)], drop={"p": nn.Dropout(0.5, rng=np.random.default_rng(1))})
    assert [n for n, _ in net.named_generators()] == ["noise.0", "drop.p.rng"]


def test_two_tensors_with_one_name_are_refused():
    net = Net(a={1: parameter(), "1": parameter()})
    with pytest.raises(ValueError, match=r"two tensors are called a\.1"):
        net.state_dict()
    with pytest.raises(ValueError, match=r"two tensors are called a\.1"):
        net.load_state_dict({})


@dataclasses.dataclass
class Config:
    layer: object
    size: int = 3


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner


HIDDEN = {
    "a set": lambda x: {x},
    "a frozen set": lambda x: frozenset([x]),
    "a deque": lambda x: collections.deque([x]),
    "a partial": lambda x: functools.partial(print, x),
    "a partial by name": lambda x: functools.partial(print, x=[x]),
    "a dataclass": lambda x: Config(x),
    "an object with slots": lambda x: Slotted([x]),
    "within a list": lambda x: [1, {"k": Config([x])}],
    "deep down": lambda x: Config({"a": [Slotted((None, {x}))]}),
    "a mapping": lambda x: collections.ChainMap({"x": x}),
}
LOST = {"a module": linear, "a parameter": parameter}


@pytest.mark.parametrize("where", HIDDEN)
@pytest.mark.parametrize("what", LOST)
@pytest.mark.parametrize("later", [False, True])
def test_what_has_no_name_is_refused_with_that_of_the_attribute(where, what, later):
    uses = [
        lambda net: list(net.parameters()),
        lambda net: net.state_dict(),
        lambda net: net.load_state_dict({}, strict=False),
        lambda net: net.to("cpu"),
        lambda net: net.eval(),
        *([] if later else [lambda net: net(np.ones((1, 2), np.float32))]),
    ]
    for use in uses:
        net = Net(first=linear())
        if later:
            list(net.parameters())
        net.holder = HIDDEN[where](LOST[what]())
        with pytest.raises(TypeError, match=r"self\.holder\S* is a \w+ that hides a (Linear|Parameter)"):
            use(net)


def test_a_method_of_a_module():
    net = Net(step=linear().forward)
    with pytest.raises(TypeError, match=r"self\.step is a method that hides a Linear"):
        net.parameters().__next__()
    inner = linear()
    assert len(list(Net(a=inner, step=inner.forward).parameters())) == 2  # found elsewhere
    assert len(list(Net(a=inner, step=functools.partial(inner, 1), same={inner}).parameters())) == 2


def test_what_is_of_the_class_is_refused():
    class Shared(nn.Module):
        layer = linear()

    class Listed(nn.Module):
        layers = (linear(),)

    class Slots(nn.Module):
        __slots__ = ("w",)

        def __init__(self):
            self.w = parameter()

    for kind, name in ((Shared, "layer"), (Listed, r"layers\.0"), (Slots, "w")):
        with pytest.raises(TypeError, match=rf"{kind.__name__}\.{name} is a (Linear|Parameter) of the class"):
            list(kind().parameters())
        with pytest.raises(TypeError, match="of the class"):
            kind()(1)


@pytest.mark.parametrize("make", [lambda t: t, lambda t: [t], lambda t: {"k": (1, t)}])
@pytest.mark.parametrize("kind", [Tensor, nn.Buffer])
def test_a_tensor_that_requires_grad_and_is_no_parameter_is_refused(make, kind):
    def w():
        return kind(np.ones(2), requires_grad=True)

    for use in (lambda n: list(n.parameters()), lambda n: n.state_dict(), lambda n: n(np.ones((1, 2)))):
        with pytest.raises(TypeError, match=r"write self\.w\S* = nn\.Parameter\(array\)"):
            use(Net(w=make(w())))
    net = Net(first=linear())
    list(net.parameters())
    net.w = make(w())  # later
    with pytest.raises(TypeError, match=r"write self\.w\S* = nn\.Parameter\(array\)"):
        net.state_dict()
    net.w = make(kind(np.ones(2)))
    assert len(list(net.parameters())) == 2


def test_what_is_not_lost_is_let_be():
    """Caches of the tape, optimizers and averages of what is found, other things, owners, and functions."""
    teacher = linear()
    net = Net(first=linear(), words=["a"] * 5, table={i: str(i) for i in range(5)}, config=Config(None))
    net.optimizer = SGD(net.parameters(), lr=0.1)
    net.last = net(np.ones((1, 2), np.float32))
    net.teach = lambda x: teacher(x)  # a function keeps it out: it is meant
    net.first.owner = Config(net)
    net.first.above = weakref.ref(net)
    net.kind, net.module = nn.Linear, np
    net.table["around"] = net.ring = Config(None)  # not a module: a ring is no trouble
    net.ring.owner = [net.ring]
    assert [n for n, _ in net.named_parameters()] == ["first.weight", "first.bias"]
    assert list(net.first.state_dict()) == ["weight", "bias"]
    assert gradcheck(Cached(), np.array([[0.3, -0.7]]))


class Cached(nn.Module):
    def __init__(self):
        self.layer = linear()

    def forward(self, x):
        self.x, self.y = x, self.layer(x)
        return self.y * self.x


def test_a_module_that_contains_itself_is_refused():
    a = Net(b=Net())
    a.b.back = [a]
    with pytest.raises(TypeError, match=r"b\.back\.0 is a Net that contains itself"):
        list(a.parameters())


def test_a_child_is_replaced_wherever_it_stands():
    net = Net(a=linear(), b=[linear(), {"k": linear()}], c=(linear(),), d=nn.ModuleList([linear()]))
    for name in ("a", "b.0", "b.1.k"):
        new = linear(7)
        net.replace_module(name, new)
        assert dict(net.named_children())[name] is new
    net.replace_module("d.0", new)
    assert net.d[0] is new
    deep = Net(a=[Net(b={"k": [linear()]})])
    deep.replace_module("a.0.b.k.0", new)
    assert deep.a[0].b["k"][0] is new
    with pytest.raises(TypeError, match=r"c\.0 is in a tuple"):
        net.replace_module("c.0", linear())
    for name in ("b.2", "e", "b.1.k.weights"):
        with pytest.raises(KeyError, match=name):
            net.replace_module(name, linear())


def test_a_call_costs_no_walk(monkeypatch):
    net, calls = Net(a=[linear()]), []
    net.a[0](np.ones((1, 2)))
    monkeypatch.setattr(nn.module, "check", lambda module: calls.append(module))
    for _ in range(3):
        net.a[0](np.ones((1, 2)))
    assert calls == []
