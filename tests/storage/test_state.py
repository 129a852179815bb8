"""The state of a run as a tree: a restored state is equal to the saved one, and a state that does not fit
is refused."""

import json

import numpy as np
import pytest

from tinygen import nn
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.nn import Dropout, Linear, Module
from tinygen.optim import EMA, AdamW
from tinygen.storage.files import CheckpointError
from tinygen.storage.state import flatten, restore, set_generator, state_of, unflatten

KINDS = [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64]


def through_json(state):
    """As a checkpoint does it: the rest as text, the arrays on their own."""
    arrays = {}
    text = json.dumps(flatten(state, "", arrays))
    return unflatten(json.loads(text), {path: np.array(a) for path, a in arrays.items()})


# -- trees -----------------------------------------------------------------------------------------


def test_what_goes_in_comes_out():
    state = {"a": [1, 2.5, None, True, "é", {}], "b": {"c": np.arange(3), "d": [np.float32(0.1)]}, "": -0.0}
    arrays = {}
    flat = flatten(state, "", arrays)
    assert flat["b"]["c"] == {"$array": "b/c"}
    assert list(arrays) == ["b/c"]
    assert json.loads(json.dumps(flat)) == flat
    again = unflatten(flat, arrays)
    assert again["a"] == state["a"]
    assert again["b"]["c"] is state["b"]["c"]
    assert again["b"]["d"] == [float(np.float32(0.1))]
    assert str(again[""]) == "-0.0"
    assert flatten((1, [np.array(2.0)]), "x", arrays) == [1, [{"$array": "x/1/0"}]]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": object()}}, "'a/b' is a object: a state has numbers, texts"),
        ({"a": {"b", "c"}}, "'a' is a set"),
        ({"a": b"bytes"}, "'a' is a bytes"),
        ({"a": [nn.Parameter(np.ones(2))]}, "'a/0' is a Parameter"),
        ({"a": {1: 2}}, "keys are texts, and not '\\$array'; 'a' has \\[1\\]"),
        ({"a": {"$array": "x"}}, "keys are texts"),
        ({"a": {"b": np.ones(1)}, "a/b": np.ones(1)}, "two arrays of the state are called 'a/b'"),
    ],
)
def test_what_has_no_place_in_a_tree(state, message):
    with pytest.raises(TypeError, match=message):
        flatten(state, "", {})


# -- things ----------------------------------------------------------------------------------------


class Shuffled:
    """Batches from a shuffled order, anew in each epoch: its state is where it is in which order."""

    def __init__(self, n, rng):
        self.rng, self.at, self.order = rng, 0, rng.permutation(n)

    def batch(self):
        if self.at == len(self.order):
            self.at, self.order = 0, self.rng.permutation(len(self.order))
        self.at += 2
        return self.order[self.at - 2 : self.at]

    def state_dict(self):
        return {"at": self.at, "order": self.order, "rng": state_of(self.rng)}

    def load_state_dict(self, saved):
        self.at, self.order = saved["at"], saved["order"]
        restore(self.rng, saved["rng"])


def things():
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(vocab_size=8, block_size=6, n_layer=2, n_head=2, n_embd=8, dropout=0.2), rng=rng)
    return {
        "model": model,
        "optimizer": AdamW(model.parameters(), lr=0.01),
        "average": EMA(model, 0.9),
        "data": Shuffled(8, np.random.default_rng(1)),
        "other": {"rng": np.random.Generator(np.random.MT19937(2)), "losses": []},
    }


def train(t, steps):
    for _ in range(steps):
        rows = t["data"].batch()
        ids = (rows[:, None] + np.arange(6)) % 8
        ids[0, 0] = t["other"]["rng"].integers(8)
        _, loss = t["model"](ids[:, :-1], ids[:, 1:])
        t["optimizer"].zero_grad()
        loss.backward()
        t["optimizer"].step()
        t["average"].update()
        t["other"]["losses"].append(loss.item())
    return t


def bits(t):
    arrays = {}
    flat = flatten(state_of(t), "", arrays)
    return json.dumps(flat), {path: a.tobytes() for path, a in arrays.items()}


@pytest.mark.parametrize("steps", [0, 1, 3, 6])  # within and between epochs
def test_training_goes_on_bit_for_bit(steps):
    straight = train(things(), steps + 7)
    state = through_json(state_of(train(things(), steps)))
    resumed = things()
    restore(resumed, state)
    resumed["other"]["losses"] = state["other"]["losses"]
    assert bits(train(resumed, 7)) == bits(straight)


@pytest.mark.parametrize("forgotten", ["model", "optimizer", "average", "data", "other"])
def test_all_of_it_is_needed(forgotten):
    """The test above would notice a thing that is not restored."""
    straight = train(things(), 10)
    state = through_json(state_of(train(things(), 3)))
    resumed = things()
    restore({name: thing for name, thing in resumed.items() if name != forgotten}, state)
    assert bits(train(resumed, 7))[1] != bits(straight)[1]


def test_a_module_has_its_generators_in_its_state():
    model = things()["model"]
    assert len(list(model.named_generators())) == 1  # the same one everywhere
    generators = state_of(model)["generators"]
    assert [*generators.values()] == [model.drop.rng.bit_generator.state]

    class Two(Module):
        def __init__(self):
            self.a = Dropout(0.5, rng=np.random.default_rng(1))
            self.b = nn.ModuleList([Dropout(0.5, rng=np.random.default_rng(2)), self.a])

    assert [name for name, _ in Two().named_generators()] == ["a.rng", "b.0.rng"]


def test_tied_weights_are_saved_once():
    tensors = state_of(things()["model"])["tensors"]
    assert ("wte.weight" in tensors) + ("lm_head.weight" in tensors) == 1


# -- generators ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_generator_goes_on(kind):
    rng = np.random.Generator(kind(5))
    rng.integers(10, size=3, dtype=np.uint32)  # leaves half a draw in the buffer
    state = through_json(state_of(rng))
    expected = rng.integers(10, size=700, dtype=np.uint32), rng.standard_normal(5)
    other = np.random.Generator(kind(6))
    restore(other, state)
    assert np.array_equal(other.integers(10, size=700, dtype=np.uint32), expected[0])
    assert np.array_equal(other.standard_normal(5), expected[1])


def changed(kind, **values):
    state = kind(0).state
    for name, value in values.items():
        (state["state"] if name in state["state"] else state)[name] = value
    return kind, state


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        changed(np.random.MT19937, pos=625),  # reads foreign memory in NumPy 2.4
        changed(np.random.MT19937, pos=-1),
        changed(np.random.MT19937, pos=10**9),  # a segmentation fault
        changed(np.random.MT19937, key=np.zeros(624, np.uint32)),  # integers(5) never returns
        changed(np.random.Philox, buffer_pos=-(10**9)),  # a segmentation fault
        changed(np.random.PCG64, state=0, inc=0),  # integers(5) never returns
        changed(np.random.PCG64, state=-1),
        changed(np.random.PCG64, state="x"),
        changed(np.random.SFC64, state=np.zeros(3, np.uint64)),
        changed(np.random.PCG64, bit_generator="MT19937"),
        (np.random.PCG64, np.random.MT19937(0).state),
        (np.random.PCG64, {}),
        (np.random.PCG64, None),
    ],
)
def test_a_generator_refuses_a_hostile_state(kind, state):
    rng = np.random.Generator(kind(1))
    before = state_of(rng)
    with pytest.raises(CheckpointError, match="state: does not fit: expected the state of such a Generator"):
        restore(rng, state)
    assert str(state_of(rng)) == str(before)


def test_the_largest_positions_are_sound():
    for kind, name, last in ((np.random.MT19937, "pos", 624), (np.random.Philox, "buffer_pos", 4)):
        set_generator(np.random.Generator(kind(0)), changed(kind, **{name: last})[1])


# -- what does not fit -----------------------------------------------------------------------------


def linear(rows):
    return Linear(2, rows, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("thing", "state", "message"),
    [
        (lambda: {"a": np.random.default_rng(0)}, dict, "the state of such a dict, found KeyError"),
        (lambda: linear(3), lambda: None, "the state of such a Linear, found TypeError"),
        (lambda: linear(3), lambda: state_of(linear(4)), r"weight is \(3, 2\) here, \(4, 2\) in the state"),
        (
            lambda: Dropout(0.1, rng=np.random.default_rng(0)),
            lambda: {"tensors": {}, "generators": {}},
            r"it has the generators \['rng'\], not \[\]",
        ),
        (
            lambda: AdamW([nn.Parameter(np.ones(2))]),
            lambda: AdamW([nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))]).state_dict(),
            "the state has 2 parameters",
        ),
        (lambda: AdamW([nn.Parameter(np.ones(2))]), lambda: {"groups": 3, "state": [1]}, "TypeError"),
    ],
)
def test_what_does_not_fit_is_said(thing, state, message):
    with pytest.raises(CheckpointError, match=message):
        restore(thing(), state())


@pytest.mark.parametrize("wrong", ["model", "optimizer", "average", "data", "other"])
def test_what_does_not_fit_changes_nothing_of_all(wrong):
    """The fault is in one thing of several: those before it are put back as they were."""
    ours, theirs = train(things(), 2), state_of(train(things(), 5))
    before = bits(ours)
    if wrong == "model":
        theirs["model"]["generators"] = {name: {} for name in theirs["model"]["generators"]}  # the last of it
    elif wrong == "optimizer":
        del theirs["optimizer"]["state"][-1]["v"]
    elif wrong == "average":
        theirs["average"]["updates"] = -1
    elif wrong == "data":
        theirs["data"]["rng"]["state"] = {"state": 1, "inc": 2}
    else:
        theirs["other"]["rng"]["state"]["pos"] = 625
    theirs = dict(sorted(theirs.items(), key=lambda item: item[0] == wrong))  # the fault comes last
    ours = {name: ours[name] for name in theirs}
    with pytest.raises(CheckpointError, match="state: does not fit"):
        restore(ours, theirs)
    assert bits({name: ours[name] for name in sorted(ours)}) == bits(dict(sorted(ours.items())))
    flat, arrays = bits(ours)
    assert sorted(json.loads(flat)) == sorted(json.loads(before[0]))
    assert json.loads(flat) == json.loads(before[0])
    assert arrays == before[1]


def test_a_generator_takes_all_of_a_state_or_nothing():
    """NumPy has set the first half when it finds a fault in the second."""
    rng = np.random.Generator(np.random.Philox(5))
    before, state = str(state_of(rng)), changed(np.random.Philox, uinteger=-1)[1]
    with pytest.raises(OverflowError):
        set_generator(rng, {**state, "buffer_pos": 1})
    assert str(state_of(rng)) == before
    with pytest.raises(OverflowError):
        rng.bit_generator.state = {**state, "buffer_pos": 1}
    assert str(state_of(rng)) != before  # NumPy alone
