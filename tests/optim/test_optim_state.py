"""States of optimizers and averages: what none of them ever has is refused by name, and changes nothing."""

import math

import numpy as np
import pytest

from tinygen import nn
from tinygen.optim import EMA, SGD, Adam


def net():
    rng = np.random.default_rng(0)
    return nn.Sequential(nn.Linear(4, 8, rng=rng), np.tanh, nn.Linear(8, 3, rng=rng))


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (model(np.ones((2, 4), np.float32)) ** 2).mean().backward()
        optimizer.step()


def changed(path, value):
    """Changes a state in one place: "state/0/m"; to `value`, or to `value(what is there)`."""

    def change(state):
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in way:
            state = state[key]
        if value is None:
            del state[last]
        else:
            state[last] = value(state[last]) if callable(value) else value

    return change


WRONG_ADAM = {
    "no m": (changed("state/0/m", None), r"should have \['m', 'step', 'v'\], and has \['step', 'v'\]"),
    "one more": (changed("state/1/x", 1), "should have"),
    "m is a number": (changed("state/0/m", 1.0), "m of parameter 0 is no array, but 1.0"),
    "m of ints": (changed("state/0/m", lambda m: m.astype(int)), "m of parameter 0 is of int64"),
    "m of complex numbers": (changed("state/0/m", lambda m: m + 1j), "m of parameter 0 is of complex"),
    "v of texts": (changed("state/3/v", lambda v: v.astype(str)), "v of parameter 3 is of <U"),
    "v below 0": (changed("state/1/v", lambda v: v - 9), "v of parameter 1 is a mean of squares"),
    "another shape": (changed("state/1/v", lambda v: v[:1]), "v of parameter 1 has shape"),
    "a step below 1": (changed("state/2/step", -3), "parameter 2 must be a whole number from 1, got -3"),
    "half a step": (changed("state/2/step", 1.5), "step of parameter 2 must be a whole number"),
    "a step that is true": (changed("state/2/step", True), "step of parameter 2 must be"),
    "lr is nan": (changed("groups/0/lr", math.nan), "lr must not be negative, got nan"),
    "lr is infinite": (changed("groups/0/lr", math.inf), "lr must be finite, got inf"),
    "lr is a text": (changed("groups/0/lr", "0.1"), "lr must be a number, got '0.1'"),
    "lr is missing": (changed("groups/0/lr", None), "are another optimizer's"),
    "two lrs": (changed("groups/0/lr", [0.1, 0.2]), r"lr of group 0 is 0.5 here, \[0.1, 0.2\] in the state"),
    "betas of 2": (changed("groups/0/betas", [2, 2]), "betas must be below 1"),
    "one beta": (changed("groups/0/betas", 0.9), r"betas of group 0 is \(0.9, 0.999\) here, 0.9 in"),
    "eps below 0": (changed("groups/0/eps", -1e-8), "eps must not be negative"),
    "no groups": (changed("groups", None), r"\['groups'\] is missing, it has \['state'\]"),
    "no state": (changed("state", None), r"\['state'\] is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_ADAM)
def test_a_state_that_adam_never_has_changes_nothing(case):
    change, message = WRONG_ADAM[case]
    model = net()
    optimizer = Adam(model.parameters(), lr=0.01)
    train(model, optimizer, 2)
    before, state = optimizer.state_dict(), optimizer.state_dict()
    change(state)
    optimizer.lr = 0.5
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.01
    assert repr(optimizer.state_dict()) == repr(before)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("state/0/m", None, "another|should have"),
        ("state/0/v", np.ones(1), r"parameter 0 should have \['m'\], and has \['m', 'v'\]"),
        ("state/0/m", lambda m: m.T, "m of parameter 0 has shape"),
        ("groups/0/momentum", 0.0, "nesterov needs a momentum above 0"),
        ("groups/0/momentum", math.nan, "momentum must not be negative"),
    ],
)
def test_a_state_that_sgd_never_has_changes_nothing(path, value, message):
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    train(model, optimizer, 1)
    before, state = optimizer.state_dict(), optimizer.state_dict()
    if value is None:
        state["state"][0] = {"velocity": state["state"][0]["m"]}
    else:
        changed(path, value)(state)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == repr(before)


def test_what_came_through_json_is_as_it_was():
    """Tuples come back as lists, and wider floats take the parameter's dtype."""
    model = net()
    optimizer = Adam(model.parameters(), lr=0.01)
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    state["groups"][0]["betas"] = list(state["groups"][0]["betas"])
    state["state"][0]["m"] = state["state"][0]["m"].astype(np.float64)
    other = Adam(net().parameters(), lr=0.5)
    other.load_state_dict(state)
    assert other.groups[0]["betas"] == (0.9, 0.999)
    assert other.state[other.params[0]]["m"].dtype == np.float32
    model.w = nn.Parameter([3.0])
    ema = EMA(model, 0.9)
    ema.load_state_dict({"updates": 1, "average": {k: a.astype(float) for k, a in ema.average.items()}})
    assert {a.dtype for a in ema.average.values()} == {np.dtype(np.float32)}


def test_a_parameter_without_state_stands_before_others():
    """It has had no gradient yet; the states of those after it are loaded."""
    new, trained = nn.Parameter([1.0]), nn.Parameter([2.0])
    trained.grad = np.ones(1, np.float32)
    optimizer, other = (Adam([new, trained], lr=0.1) for _ in range(2))
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    assert list(other.state) == [trained]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("updates", None), r"\['updates'\] is missing, it has \['average'\]"),
        (changed("average", None), r"\['average'\] is missing"),
        (changed("updates", -1), "updates must be a whole number from 0, got -1"),
        (changed("updates", 0.5), "updates must be a whole number from 0"),
        (changed("average/w", None), "the average has"),
        (changed("average/w", 1.0), "but got"),
        (changed("average/w", np.array([1])), "the average w is of int64"),
        (changed("average/w", np.array([1j])), "the average w is of complex128"),
        (changed("average/w", np.array(["x"])), "the average w is of <U1"),
    ],
)
def test_a_state_that_an_average_never_has_changes_nothing(change, message):
    model = nn.Module()
    model.w = nn.Parameter([3.0])
    ema = EMA(model, 0.9)
    ema.update()
    state = ema.state_dict()
    change(state)
    with pytest.raises(ValueError, match=message):
        ema.load_state_dict(state)
    assert repr(ema.state_dict()) == repr({"updates": 1, "average": {"w": np.array([3.0], np.float32)}})
