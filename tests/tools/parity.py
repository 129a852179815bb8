"""Compares our modules with torch's and diffusers': from the same weights, the same values and gradients."""

import numpy as np
import torch

from tinygen import Tensor


def renamed(state, layers, paths):
    """{their name: array} from {our name: array}. `layers` maps the end of our name to their layers; the
    rows of our array are divided among these. In the beginning of the name, the `paths` are replaced, one
    after the other."""
    found = {}
    for name, array in state.items():
        path, kind = name.rsplit(".", 1)
        ours = max((layer for layer in layers if f".{path}".endswith(f".{layer}")), key=len)
        path = path.removesuffix(ours)
        for old, new in paths.items():
            path = path.replace(old, new)
        for their, part in zip(layers[ours], np.split(array, len(layers[ours])), strict=True):
            found[f"{path}{their}.{kind}"] = part
    return found


def agree(ours, theirs, layers, inputs, tolerance, paths=None, call=None, their_call=None):
    """Copy our weights into their module; then compare outputs, and the gradients of the inputs and of all
    weights. Gradients of weights are sums over all positions; their allowed error is relative to the
    largest entry. `call(*inputs)` is `ours(*inputs)` with its other arguments; `their_call` returns a
    tensor."""
    paths = paths or {}
    dtype = inputs[0].dtype
    theirs.to(getattr(torch, str(dtype)))
    weights = renamed(ours.state_dict(), layers, paths)
    shapes = {name: p.shape for name, p in theirs.state_dict().items()}
    theirs.load_state_dict({k: torch.tensor(v).reshape(shapes[k]) for k, v in weights.items()})
    xs = [Tensor(x, requires_grad=True) for x in inputs]
    ts = [torch.tensor(x, requires_grad=True) for x in inputs]
    y, ty = (call or ours)(*xs), (their_call or theirs)(*ts)
    assert y.dtype == dtype
    g = np.random.default_rng(9).standard_normal(y.shape).astype(dtype)
    y.backward(g)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, ty.detach().numpy(), rtol=tolerance, atol=tolerance)
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=tolerance, atol=tolerance)
    wanted = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, grad in renamed(gradients, layers, paths).items():
        bound = tolerance * max(np.abs(wanted[name]).max(), 1)
        np.testing.assert_allclose(
            grad.reshape(shapes[name]), wanted[name], rtol=tolerance, atol=bound, err_msg=name
        )
