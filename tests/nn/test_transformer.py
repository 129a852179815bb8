"""The transformer block: what it is made of, gradients of every parameter, and parity with torch."""

import numpy as np
import pytest
from foreign import Foreign
from reading_size import GPT_BLOCK, total

from tinygen import Tensor, checkpoint, nn, no_grad, ops
from tinygen.gradcheck import gradcheck
from tinygen.optim import EMA, SGD, AdamW, clip_grad_norm, decay_groups

B, T, C, H = 2, 3, 4, 2


def rng(seed=0):
    return np.random.default_rng(seed)


def tokens(t=T, c=C, dtype=np.float64):
    return rng(1).standard_normal((B, t, c)).astype(dtype)


def as_function_of_parameters(module):
    """f(x, *parameters) that computes `module` with these tensors in the place of its parameters."""
    places = [
        (vars(m), name)
        for _, m in module.named_modules()
        for name, value in vars(m).items()
        if isinstance(value, nn.Parameter)
    ]

    def f(x, *parameters):
        for (attributes, name), p in zip(places, parameters, strict=True):
            attributes[name] = p
        return module(x)

    return f


def test_block_is_its_formula():
    block, x = nn.Block(C, H, causal=True, rng=rng()).astype(np.float64), tokens()
    for i, p in enumerate(block.parameters()):  # no two of its norms alike
        p.data += rng(i).standard_normal(p.shape)
    y = x + block.attn(block.ln1(x)).data
    y = y + block.mlp(block.ln2(y)).data
    np.testing.assert_array_equal(block(x).data, y)
    hidden = ops.gelu(block.mlp.fc(x), "tanh")
    assert hidden.shape == (B, T, 4 * C)
    np.testing.assert_array_equal(block.mlp(x).data, block.mlp.proj(hidden).data)


def test_block_with_zero_projections_is_the_identity():
    block, x = nn.Block(C, H, causal=True, rng=rng()).astype(np.float64), tokens()
    for name, p in block.named_parameters():
        if "proj" in name:
            p.data = np.zeros_like(p.data)
    np.testing.assert_array_equal(block(x).data, x)


def test_gelu_is_exact_or_by_tanh():
    x = tokens()
    tanh, exact = (nn.MLP(C, gelu=gelu, rng=rng()).astype(np.float64) for gelu in ("tanh", "none"))
    difference = np.abs(tanh(x).data - exact(x).data).max()
    assert 0 < difference < 5e-4 * 4 * C


def test_without_bias_there_is_none():
    names = [name for name, _ in nn.Block(C, H, causal=True, bias=False, rng=rng()).named_parameters()]
    assert names == [
        *("ln1.weight", "attn.qkv.weight", "attn.proj.weight"),
        *("ln2.weight", "mlp.fc.weight", "mlp.proj.weight"),
    ]


def test_the_number_of_parameters_is_12_c_squared_and_13_c():
    assert nn.Block(C, H, causal=True, rng=rng()).num_parameters() == 12 * C * C + 13 * C


@pytest.mark.parametrize(
    "kwargs", [{}, {"causal": False, "gelu": "none"}, {"use_rotary": True, "bias": False}]
)
def test_gradients_of_all_parameters(kwargs):
    block = nn.Block(C, H, **{"causal": True, **kwargs}, rng=rng()).astype(np.float64)
    # Norm weights away from 1, biases away from 0, and weights large enough for attention to be uneven.
    values = [p.data + 0.5 * rng(i).standard_normal(p.shape) for i, p in enumerate(block.parameters())]
    assert gradcheck(as_function_of_parameters(block), tokens(), *values)


def test_second_derivatives_of_all_parameters():
    block = nn.Block(2, 1, causal=True, bias=False, use_rotary=True, rng=rng()).astype(np.float64)
    values = [p.data + 0.5 * rng(i).standard_normal(p.shape) for i, p in enumerate(block.parameters())]
    assert gradcheck(as_function_of_parameters(block), tokens(2, 2), *values, order=2)


def test_gradients_with_dropout_go_through_the_same_mask():
    block = nn.Block(C, H, causal=True, dropout=0.3, rng=rng()).astype(np.float64)
    state = rng(5).bit_generator.state

    def f(x):
        block.dropout.rng.bit_generator.state = state  # one generator in all of the block
        return block(x)

    assert block.attn.rng is block.dropout.rng
    assert gradcheck(f, tokens())
    assert (f(tokens()).data == 0).sum() == 0
    assert (f(tokens()).data != block.eval()(tokens()).data).any()


@pytest.mark.parametrize("use_rotary", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_of_blocks_with_caches_equals_the_full_pass(dtype, use_rotary):
    t, c = 16, 32
    blocks = [nn.Block(c, 4, causal=True, use_rotary=use_rotary, rng=rng(i)).astype(dtype) for i in range(3)]
    x = tokens(t, c, dtype)
    caches = [nn.KVCache(t) for _ in blocks]

    def run(x, caches):
        for block, cache in zip(blocks, caches, strict=True):
            x = block(x, cache=cache)
        return x.data

    with no_grad():
        full = run(x, [None] * 3)
        parts = [run(x[:, i : i + 1], caches) for i in range(t)]
    # BLAS sums matrix-vector products in another order than matrix products: a few units in the last place
    tolerance = 5e-6 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(np.concatenate(parts, axis=1), full, rtol=tolerance, atol=tolerance)


def test_a_checkpointed_block_has_the_same_gradients_with_dropout_too():
    x = tokens(dtype=np.float32)
    gradients = []
    for run in (lambda block: block(x), lambda block: checkpoint(block, x)):
        block = nn.Block(C, H, causal=True, dropout=0.2, rng=rng())
        (run(block) * 1.0).sum().backward()
        gradients.append([p.grad for p in block.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_and_sampling_with_another_array_type_make_no_numpy_arrays():
    """As on a GPU, with `Foreign` in the place of CuPy's arrays: everything here in one model."""

    def run(convert):
        model = nn.ModuleList(
            nn.Block(C, H, causal=True, dropout=0.1, use_rotary=True, rng=rng(i)) for i in range(2)
        )
        model.append(nn.BatchNorm(T))
        model.astype(np.float64).convert(convert)
        optimizers = [AdamW(decay_groups(model, 0.1), lr=0.1), SGD(model.parameters(), 0.1, momentum=0.9)]
        ema = EMA(model, 0.9)
        x, g = Tensor(convert(tokens())), convert(rng(9).standard_normal((B, T, C)))
        for optimizer in optimizers:
            model[2](model[1](model[0](x))).backward(g)
            assert clip_grad_norm(model.parameters(), 0.5) > 0.5
            optimizer.step()
            ema.update()
        ema.copy_to(model)
        cache = nn.KVCache(T)
        with no_grad():
            parts = [model[0].eval()(x[:, i : i + 1], cache=cache).numpy() for i in range(T)]
        assert {type(t.data) for _, t in model.named_tensors(Tensor)} == {type(convert(np.zeros(1)))}
        return {**model.state_dict(), "cached": np.concatenate(parts, axis=1)}

    ours, foreign = run(lambda array: array), run(Foreign)
    for name, array in ours.items():
        np.testing.assert_allclose(array, foreign[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parity_with_torch(dtype):
    torch = pytest.importorskip("torch")
    t, c = 5, 8
    block = nn.Block(c, H, causal=True, gelu="none", rng=rng()).astype(dtype)
    theirs = torch.nn.TransformerEncoderLayer(
        c, H, 4 * c, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).to(getattr(torch, dtype.__name__))
    names = {
        "ln1": "norm1",
        "attn.qkv.": "self_attn.in_proj_",
        "attn.proj": "self_attn.out_proj",
        "ln2": "norm2",
        "mlp.fc": "linear1",
        "mlp.proj": "linear2",
    }

    def theirs_name(name):
        ours = next(n for n in names if name.startswith(n))
        return names[ours] + name.removeprefix(ours)

    theirs.load_state_dict({theirs_name(k): torch.tensor(v) for k, v in block.state_dict().items()})
    x = tokens(t, c, dtype)
    tx = torch.tensor(x, requires_grad=True)
    y = block(x)
    ty = theirs(tx, src_mask=torch.triu(torch.ones(t, t, dtype=torch.bool), 1))
    g = rng(8).standard_normal(y.shape).astype(dtype)
    y.backward(g)
    ty.backward(torch.tensor(g))
    tolerance = {"rtol": 2e-4, "atol": 2e-5} if dtype is np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y.data, ty.detach().numpy(), **tolerance)
    gradients = dict(theirs.named_parameters())
    for name, p in block.named_parameters():
        theirs_grad = gradients[theirs_name(name)].grad.numpy()
        np.testing.assert_allclose(p.grad, theirs_grad, **tolerance, err_msg=name)


def test_a_reader_meets_few_lines_and_names():
    """All of a block down to the ops: the longer it gets, the fewer read it to the end."""
    lines, names = total(GPT_BLOCK)
    assert lines <= 105
    assert len(names) <= 106
