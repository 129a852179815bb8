"""Philox against its published answers, what is made of its words, and the generator that asks for them."""

import copy
import math

import numpy as np
import pytest
from philox_answers import ANSWERS

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.diffusion import Process, cosine_schedule, simple_loss
from tinygen.models.pictures.vae import Posterior
from tinygen.ops import random
from tinygen.ops.random import DeviceGenerator, Seed, as_generator, dropout_mask, new_seed, noise_like
from tinygen.storage.state import restore, state_of

X = np.zeros((3, 5), np.float32)


@pytest.mark.parametrize(("counter", "key", "expected"), ANSWERS)
def test_known_answers(counter, key, expected):
    words = random.philox(*(np.uint64(int(word, 16)) for word in f"{counter} {key}".split()))
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_counters_are_numbered():
    """Entry i + j·Q is word j of counter i, and the seed is the key."""
    seed = Seed(0x299F31D0_A4093822)
    u = random.uniform(X, (7,), seed)[0]
    words = [random.philox(*map(np.uint64, (i, 0, 0, 0, 0xA4093822, 0x299F31D0))) for i in range(2)]
    expected = [int(words[i][j]) >> 8 for j in range(4) for i in range(2)][:7]
    np.testing.assert_array_equal(u * 2**24, expected)


# -- what is made of the words ---------------------------------------------------------------------


def deviations(seed, n=200_000):
    """How far moments are from what they must be, in their standard deviations."""
    u, z = (draw(X, (n,), Seed(seed))[0].astype(np.float64) for draw in (random.uniform, random.normal))
    assert 0 <= u.min() <= u.max() < 1
    cosines, sines = z[: n // 4], z[n // 4 : n // 2]  # of the same points
    moments = {
        "uniform: mean": (u, 1 / 2, 1 / 12),  # what, its mean, its variance
        "uniform: square": (u**2, 1 / 3, 4 / 45),
        "normal: mean": (z, 0, 1),
        "normal: variance": (z**2, 1, 2),
        "normal: third moment": (z**3, 0, 15),
        "normal: fourth moment": (z**4, 3, 96),
        "normal: the two of a point": (cosines * sines, 0, 1),
        "normal: their squares": ((cosines**2 - 1) * (sines**2 - 1), 0, 4),
    }
    return {k: abs(x.mean() - mean) / math.sqrt(var / len(x)) for k, (x, mean, var) in moments.items()}


FAR = (
    5.8  # standard deviations: by the normal distribution 7e-9 each, so that all eight alarm falsely at 6e-8
)


def test_moments():
    assert {k: d for k, d in deviations(1).items() if d > FAR} == {}


def test_wrong_samplers_are_seen(monkeypatch):
    right = random.unit_interval
    for name, wrong in {
        "uniform: mean": lambda word: right(word) * np.float32(0.98),
        "uniform: square": lambda word: (right(word) + right(word[::-1])) / 2,  # the mean stays
        "normal: the two of a point": lambda word: right(word) / 4,  # a quarter of the angles
    }.items():
        monkeypatch.setattr(random, "unit_interval", wrong)
        assert deviations(1)[name] > FAR, name


# -- the generator ---------------------------------------------------------------------------------


def test_it_is_numpy_s_for_everything_else():
    ours, theirs = DeviceGenerator(3), np.random.default_rng(3)
    assert isinstance(ours, np.random.Generator)
    np.testing.assert_array_equal(ours.integers(9, size=4), theirs.integers(9, size=4))
    np.testing.assert_array_equal(ours.standard_normal(4), theirs.standard_normal(4))
    assert type(new_seed(ours)) is Seed
    assert type(new_seed(theirs)) is int


def test_its_copies_and_children_are_of_its_kind():
    rng = DeviceGenerator(3)
    again = copy.deepcopy(rng)
    assert type(again) is DeviceGenerator
    np.testing.assert_array_equal(noise_like(X, again), noise_like(X, rng))
    assert type(rng.spawn(1)[0]) is DeviceGenerator


def test_it_goes_on_where_it_was():
    """As part of a module, and by itself."""
    layer, rng = nn.Dropout(0.5, rng=DeviceGenerator(3)), DeviceGenerator(4)
    layer(X)
    noise_like(X, rng)
    state = state_of({"layer": layer, "rng": rng})
    ones = np.ones((4, 9), np.float32)
    expected = layer(Tensor(ones)).data, noise_like(X, rng)
    other, other_rng = nn.Dropout(0.5, rng=DeviceGenerator(0)), DeviceGenerator(0)
    restore({"layer": other, "rng": other_rng}, state)
    np.testing.assert_array_equal(other(Tensor(ones)).data, expected[0])
    np.testing.assert_array_equal(noise_like(X, other_rng), expected[1])
    assert len(np.unique(expected[0])) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    x = np.zeros((3, 5), dtype)
    noise, mask = noise_like(x, DeviceGenerator(0)), dropout_mask(x, (2, 3), 0.5, Seed(1))
    assert noise.dtype == mask.dtype == dtype
    assert (noise.shape, mask.shape) == ((3, 5), (2, 3))
    np.testing.assert_array_equal(noise, noise_like(X, DeviceGenerator(0)).astype(dtype))


def test_empty():
    assert noise_like(np.zeros((0, 3), np.float32), DeviceGenerator(0)).shape == (0, 3)


def test_a_mask_keeps_as_many_as_it_should():
    """Of 100,000, each with probability 0.7; within 5.5 standard deviations, a false alarm of 4e-8."""
    mask = dropout_mask(X, (100_000,), 0.3, Seed(5))
    np.testing.assert_array_equal(np.unique(mask), np.float32([0, 1 / 0.7]))
    assert abs((mask > 0).mean() - 0.7) < 5.5 * math.sqrt(0.3 * 0.7 / 100_000)


def test_dropout_is_the_same_when_the_tape_runs_again():
    """For a gradient's gradient the op's body is run once more."""
    x = Tensor(np.ones((4, 9)), requires_grad=True)
    square = lambda x: np.sum(np.square(ops.dropout(x, 0.5, DeviceGenerator(2))))
    assert tinygen.gradcheck(square, x, order=2)
    slopes = tinygen.grad(square)(x).data
    np.testing.assert_array_equal(np.unique(slopes), [0, 8])


def test_attention_drops_by_it():
    layer = nn.MultiHeadAttention(4, 2, dropout=0.5, rng=DeviceGenerator(2))
    layer(Tensor(np.ones((1, 3, 4), np.float32))).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_noise_of_diffusion_and_of_a_vae():
    """Seeds are drawn after the steps, which are NumPy's."""
    x, seen = np.ones((4, 3), np.float32), []
    simple_loss(
        Process(cosine_schedule(10)), lambda noisy, t: seen.append(noisy) or noisy, x, rng=DeviceGenerator(7)
    )
    rng = np.random.default_rng(7)
    t, noise = 1 + rng.integers(10, size=4), random.normal(x, x.shape, Seed(rng.integers(2**63)))[0]
    np.testing.assert_array_equal(seen[0], Process(cosine_schedule(10)).diffuse(x, t, noise))
    q = Posterior(Tensor(x), Tensor(x))
    expected = 1 + math.exp(0.5) * noise_like(x, DeviceGenerator(7))
    np.testing.assert_allclose(q.sample(rng=DeviceGenerator(7)).data, expected, rtol=1e-6)


# -- rng, or a seed --------------------------------------------------------------------------------


def test_as_generator_takes_a_generator_as_it_is_and_an_int_as_a_seed():
    for rng in (np.random.default_rng(3), DeviceGenerator(3)):
        assert as_generator(rng) is rng
    for seed in (3, np.int64(3)):
        assert as_generator(seed).random() == np.random.default_rng(3).random()
    assert as_generator(0).random() != as_generator(1).random()


@pytest.mark.parametrize(
    ("rng", "error", "text"),
    [
        (None, TypeError, "rng must be a np.random.Generator or an int, the seed of one, got NoneType"),
        (True, TypeError, "got bool"),
        (1.0, TypeError, "got float"),
        (np.random.RandomState(0), TypeError, "got RandomState"),
        (-1, ValueError, "a seed of 0 or more, got -1"),
    ],
)
def test_as_generator_refuses_the_rest(rng, error, text):
    with pytest.raises(error, match=text):
        as_generator(rng)
