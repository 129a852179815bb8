"""Compares ops, layers, models, samplers and optimizers with golden values, without any other library; and,
if the libraries are installed, compares the golden values with their present results."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden import cases, models
from golden.formula import found

import tinygen

CASES = {**cases.CASES, **models.CASES}
VALUES = json.loads((Path(__file__).parent / "values.json").read_text())
every_case = pytest.mark.parametrize("name", CASES)


def require_same(got, wanted, tolerance):
    """Two results of one case. The names of weights are told by their places."""
    assert got.keys() == wanted.keys()
    for what, values in got.items():
        assert len(values) == len(wanted[what]), what
        for i, (a, b) in enumerate(zip(values, wanted[what], strict=True)):
            if b is None:
                assert a is None, (what, i)
            else:
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"{what} {i}")


@every_case
def test_golden_values(name):
    require_same(found(CASES[name]), VALUES[name], CASES[name].tolerance)


@pytest.mark.parametrize("kernels", ["off", "numpy"])
@pytest.mark.parametrize("name", ["lstm", "block", "unet-texts", "vqvae"])
def test_whatever_computes_them(name, kernels):
    before = tinygen.kernels.mode
    tinygen.kernels(kernels)
    try:
        require_same(found(CASES[name]), VALUES[name], CASES[name].tolerance)
    finally:
        tinygen.kernels(before)


def test_there_are_no_others():
    assert VALUES.keys() == {"source", *CASES}


@every_case
def test_they_are_what_the_library_says(name):
    for library in ("torch", "transformers", "diffusers"):
        pytest.importorskip(library)
    from golden import make

    require_same(make.rounded(make.made(name, CASES[name])), VALUES[name], CASES[name].tolerance)
