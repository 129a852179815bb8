"""Our modules beside torch's and diffusers', from the same weights: the same values and gradients."""

import re

import numpy as np
import torch

from tinygen import Tensor


def renamed(state, table):
    """{their name: array} of {our name: array}. The table has, for each of our layers (all in one in `blocks`
    have the same names), their layers between which its rows are shared out."""
    found = {}
    for name, array in state.items():
        block, layer, kind = re.fullmatch(r"(?:(blocks\.\d+)\.)?(.+)\.(\w+)", name).groups()
        theirs = table[layer]
        for their, part in zip(theirs, np.split(array, len(theirs)), strict=True):
            found[f"transformer_{block}.{their}.{kind}" if block else f"{their}.{kind}"] = part
    return found


def agree(ours, theirs, table, inputs, tolerance, extra=(), their_extra=None):
    """Compare outputs, and the gradients of the inputs and of all weights: theirs get ours by `table`.
    Gradients of weights are sums over all positions, and may be off in proportion to the largest of them.
    What comes after the inputs, and needs no gradient, is `extra` and `their_extra`."""
    dtype = inputs[0].dtype
    theirs.to(getattr(torch, str(dtype)))
    weights = renamed(ours.state_dict(), table)
    shapes = {name: p.shape for name, p in theirs.state_dict().items()}
    theirs.load_state_dict({k: torch.tensor(v).reshape(shapes[k]) for k, v in weights.items()})
    xs = [Tensor(x, requires_grad=True) for x in inputs]
    ts = [torch.tensor(x, requires_grad=True) for x in inputs]
    y, ty = ours(*xs, *extra), theirs(*ts, **(their_extra or {}))
    ty = ty[0] if isinstance(ty, tuple) else ty
    assert y.dtype == dtype
    g = np.random.default_rng(9).standard_normal(y.shape).astype(dtype)
    y.backward(g)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=tolerance, atol=tolerance)
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=tolerance, atol=tolerance)
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name, grad in renamed({name: p.grad for name, p in ours.named_parameters()}, table).items():
        bound = tolerance * max(np.abs(wanted[name]).max(), 1)
        np.testing.assert_allclose(
            grad.reshape(shapes[name]), wanted[name], rtol=tolerance, atol=bound, err_msg=name
        )
