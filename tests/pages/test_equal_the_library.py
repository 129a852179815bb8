"""Each page computes the same as the library: value and every gradient, in float64, from the same weights
and the same random numbers. The difference is 0.0, or it is stated with its reason."""

from types import SimpleNamespace

import numpy as np
import pytest
from in_threads import run_processes
from pages.page import Draws, descend, difference, load, value_and_grads

import tinygen
from tinygen import Tensor, nn, ops
from tinygen.align import dpo as align_dpo
from tinygen.align import ppo as align_ppo
from tinygen.align import rollouts
from tinygen.density import GaussianMixture, Parameters
from tinygen.diffusion import (
    ancestral_sampling,
    flow_log_prob,
    flow_matching_loss,
    last_state,
    midpoint,
    schedule,
    simple_loss,
)
from tinygen.diffusion.process import Process
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.models.language.recurrent import RecurrentLM
from tinygen.models.language.transformer import Transformer, TransformerConfig
from tinygen.models.language.wavenet import WaveNet
from tinygen.models.pictures.autoencoder import AutoencoderKL
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import logistic_loss, non_saturating_loss, r1_penalty
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.style import StyleTransfer
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, Posterior
from tinygen.models.pictures.vgg import MEAN, STD, VGG
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion
from tinygen.nn.timesteps import timestep_embedding
from tinygen.optim import AdamW
from tinygen.text.decoding import sample
from tinygen.text.masking import IGNORED, mask_tokens


@pytest.fixture(autouse=True)
def definitions():
    """The ops as they are defined, without kernels."""
    with tinygen.kernels("off"):
        yield


def rng():
    return np.random.default_rng(7)


def set_weights(model, weights):
    """`weights` are {name of the parameter: array}: all of them, and no others."""
    parameters = dict(model.named_parameters())
    assert parameters.keys() == weights.keys()
    for name, w in weights.items():
        assert parameters[name].shape == w.shape, name
        parameters[name].replace(w)


# -- the engine --------------------------------------------------------------------------------------


def expression(a, b, c, tanh, log_softmax, total):
    """Broadcasting in front and within, values that are used again, every op."""
    h = tanh(a @ b + c)  # (3, 4)
    return total(log_softmax(h * c + h * h) * h + c)


def test_engine():
    page = load("engine")
    arrays = [rng().standard_normal(shape) for shape in ((3, 2), (2, 4), (4,))]
    ours = [page.Tensor(x) for x in arrays]
    theirs = [Tensor(x, requires_grad=True) for x in arrays]
    y = expression(*ours, page.tanh, page.log_softmax, page.total)
    z = expression(*theirs, np.tanh, ops.log_softmax, np.sum)
    y.backward()
    z.backward()
    assert difference(y.data, z.item()) == 0.0
    assert difference([x.grad for x in ours], [x.grad for x in theirs]) == 0.0


def test_engine_s_log_softmax_of_large_logits():
    page = load("engine")
    x = page.Tensor([[1e4, 1e4 + np.log(3)]])
    y = page.log_softmax(x)
    np.testing.assert_allclose(np.exp(y.data), [[0.25, 0.75]], rtol=1e-11)


def test_engine_runs_the_bodies_of_the_library():
    """One format for both: `value, rule, rule, ...`. So the gradients are the same to the bit."""
    page = load("engine")
    arrays = [rng().standard_normal(shape) for shape in ((3, 2), (2, 4), (4,))]
    ours = [page.Tensor(x) for x in arrays]
    theirs = [Tensor(x, requires_grad=True) for x in arrays]
    tanh, log_softmax, total = (page.op(f.op.body) for f in (ops.tanh, ops.log_softmax, ops.sum))
    y = expression(*ours, tanh, log_softmax, total)
    z = expression(*theirs, np.tanh, ops.log_softmax, np.sum)
    y.backward()
    z.backward()
    assert difference(y.data, z.item()) == 0.0
    assert difference([x.grad for x in ours], [x.grad for x in theirs]) == 0.0


def test_engine_unbroadcasts():
    page = load("engine")
    g = rng().standard_normal((2, 3, 4))
    for shape in ((), (4,), (3, 1), (1, 3, 4), (2, 1, 1), (2, 3, 4), (1, 1, 1)):
        x = Tensor(np.zeros(shape), requires_grad=True)
        np.sum((x + np.zeros((2, 3, 4))) * g).backward()
        np.testing.assert_allclose(page.unbroadcast(g, shape), x.grad, atol=1e-14)
        assert page.unbroadcast(g, shape).shape == shape


def test_a_step_of_the_engine():
    page = load("engine")
    params = [rng().standard_normal(shape) for shape in ((2, 5), (5,), (5, 3), (3,))]
    before = [w.copy() for w in params]
    x, labels = rng().standard_normal((8, 2)), rng().integers(0, 3, 8)
    loss = page.train_step(params, x, np.eye(3)[labels], lr=1.0)

    def library(p):
        return ops.cross_entropy(np.tanh(x @ p[0] + p[1]) @ p[2] + p[3], labels)

    value, grads = value_and_grads(library, dict(enumerate(before)))
    assert difference(loss, value) < 1e-15  # the mean of a sum, or the sum of a mean
    assert difference([w - g for w, g in zip(before, grads.values(), strict=True)], params) < 1e-15


# -- GPT ---------------------------------------------------------------------------------------------


def gpt_and_params(V=11, block_size=8, n_layer=2, H=2, C=8):
    params = load("gpt").init(V, block_size, n_layer, C, rng())
    config = GPTConfig(V, block_size, n_layer=n_layer, n_head=H, n_embd=C, bias=False)
    model = GPT(config, rng=rng()).astype(np.float64)
    set_weights_of_gpt(model, params)
    return model, params


def gpt_name(name):
    i, _, layer = name.rpartition(".")
    layers = {"qkv": "attn.qkv", "proj": "attn.proj", "fc": "mlp.fc", "out": "mlp.proj"}
    return f"h.{i}.{layers.get(layer, layer)}.weight" if i else f"{name}.weight"


def transposed_grads(model):
    """The gradients of the library's GPT, as the page's parameters are laid out."""
    names = {gpt_name(name): name for name in load("gpt").init(1, 1, len(model.h), 1, rng())}
    grads = {names[name]: w.grad for name, w in model.named_parameters()}
    return {name: g.T if g.ndim == 2 and name[0] != "w" else g for name, g in grads.items()}


def compare_gpt(H, tokens, targets):
    """The differences of logits, loss and gradients."""
    page = load("gpt")
    model, params = gpt_and_params(V=16, H=H)
    grads = {}
    value = page.train_step(params, tokens, targets, 2, H, lambda _, g: grads.update(g))
    logits, loss = model(tokens, targets)
    loss.backward()
    return (
        difference(page.gpt(params, tokens, 2, H), logits.numpy()),
        difference(value, loss.item()),
        difference(grads, transposed_grads(model)),
    )


def test_gpt_exactly():
    """Each token comes once, and B T and √d are powers of 2, by which one can divide without rounding."""
    tokens, targets = rng().permutation(16).reshape(2, 8), rng().integers(0, 16, (2, 8))
    assert compare_gpt(2, tokens, targets) == (0.0, 0.0, 0.0)


def test_gpt():
    """Any batch: gradients of one token are added in another order, and x / n and x · (1/n) round apart."""
    tokens, targets = rng().integers(0, 16, (2, 3, 7))
    assert max(compare_gpt(4, tokens, targets)) < 5e-16


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gpt_samples(temperature):
    """Also beyond block_size."""
    model, params = gpt_and_params()
    params["ln_f"] *= 30.0  # far from uniform
    tokens = rng().integers(0, 11, (3, 2))
    ours = load("gpt").sample(params, tokens, 10, 2, 2, rng(), temperature)
    assert ours.shape == (3, 12)
    np.testing.assert_array_equal(ours, model.sample(tokens, 10, temperature, rng=rng()))


def test_gpt_starts_like_the_library():
    params = load("gpt").init(300, 200, 2, 64, rng())
    model = GPT(GPTConfig(300, 200, n_layer=2, n_head=2, n_embd=64, bias=False), rng=rng())
    assert {gpt_name(name) for name in params} == {name for name, _ in model.named_parameters()}
    for name, w in model.named_parameters():
        ours = next(p for key, p in params.items() if gpt_name(key) == name)
        np.testing.assert_allclose(np.std(ours), np.std(w.numpy()), rtol=0.05, err_msg=name)


# -- translation -------------------------------------------------------------------------------------


def translation_weights(p):
    """The arrays of the page, named and laid out as in the library: one matrix for q, k and v of
    self-attention."""
    found = {"embedding.weight": p["E"]}
    for name, w in p.items():
        if name == "E":
            continue
        part, sublayer, i, last = name.split(".")
        if (sublayer, last) == ("attn", "q"):
            continue
        if (sublayer, last) == ("attn", "kv"):
            w, last = np.concatenate([p[name.removesuffix("kv") + "q"], w], axis=1), "qkv"
        last = "norm" if last == "norm" else f"f.{last.replace('out', 'proj')}"
        found[f"{part}.{i}.{sublayer}.{last}.weight"] = w.T if w.ndim == 2 else w
    return found


def translation_and_params(H):
    """The library's has biases: they are 0, and have no gradient on the page."""
    params = load("translation").init(16, 2, 8, 6, rng())
    params = {name: w + 0.1 * rng().standard_normal(w.shape) for name, w in params.items()}
    config = TransformerConfig(16, layers=2, heads=H, channels=8, hidden=6, dropout=0.0)
    model = Transformer(config, rng=rng()).astype(np.float64)
    biases = {name: np.zeros(w.shape) for name, w in model.named_parameters() if name.endswith("bias")}
    set_weights(model, translation_weights(params) | biases)
    return model, params


def compare_translation(H, source, target):
    """The differences of logits, loss and gradients."""
    page = load("translation")
    model, params = translation_and_params(H)
    grads = {}
    value = page.train_step(params, source, target, 2, H, 0.1, lambda _, g: grads.update(g))
    loss = model.loss(source, target)
    loss.backward()
    logits = page.decode(params, target, page.encode(params, source, 2, H), source, 2, H)
    theirs = {name: w.grad for name, w in model.named_parameters() if not name.endswith("bias")}
    return (
        difference(logits, model(source, target).numpy()),
        difference(value, loss.item()),
        difference(translation_weights(grads), theirs),
    )


def translation_batch():
    source, target = rng().integers(3, 16, (2, 3, 6))
    source[0, 4:], target[1, 3:] = 0, 0
    target[:, 0] = 1
    return source, target


def test_translation_exactly():
    """√d is a power of 2. Gradients of a token are added in another order, as it is in source, target and
    output."""
    logits, loss, grads = compare_translation(2, *translation_batch())
    assert (logits, loss) == (0.0, 0.0)
    assert grads < 3e-15


def test_translation():
    """x / √d rounds otherwise than x · (1/√d)."""
    assert max(compare_translation(4, *translation_batch())) < 5e-15


def test_translation_writes_the_same():
    model, params = translation_and_params(2)
    source, _ = translation_batch()
    ours, theirs = load("translation").translate(params, source, 8, 2, 2), model.greedy_search(source, 8)
    assert ours.shape == (3, 8)
    for a, b in zip(ours[:, : theirs.shape[1]], theirs, strict=True):
        assert np.array_equal(a[b != 0], b[b != 0])


# -- BERT --------------------------------------------------------------------------------------------

PAD, HOLE = 0, 1


def bert_name(name):
    layers = {"qkv": "attn.qkv", "out": "proj", "proj": "attn.proj", "head": "transform"}
    layers |= {"head_norm": "transform_norm"}
    *block, layer, kind = name.rsplit(".", 2) if "." in name else (name, "W")
    kind = {"W": "weight", "b": "bias"}[kind]
    path = [f"h.{i}" for i in block] + [layers.get(layer, layer)]
    return "lm_head.bias" if name == "b" else ".".join([*path, kind])


def bert_and_params(V=16, H=2, C=8, F=12):
    """The library's has segments: they add 0, and have no gradient on the page. Biases are not 0."""
    params = load("bert").init(V, 8, 2, C, F, rng())
    params = {name: w + 0.1 * rng().standard_normal(w.shape) for name, w in params.items()}
    config = BERTConfig(V, 8, 2, H, C, F, dropout=0.0, next_sentence=False)
    model = BERT(config, rng=rng()).astype(np.float64)
    weights = {bert_name(name): w.T if w.ndim == 2 and name[0] != "w" else w for name, w in params.items()}
    set_weights(model, weights | {"segment.weight": np.zeros((2, C))})
    return model, params


def compare_bert(tokens, seed, H=2):
    """The number of hidden tokens, and the differences of logits, loss and gradients."""
    page = load("bert")
    model, params = bert_and_params(H=H)
    real = tokens != PAD
    grads = {}
    update = lambda _, g: grads.update(g)
    value = page.train_step(params, tokens, real, HOLE, 2, H, np.random.default_rng(seed), update)
    inputs, targets = mask_tokens(tokens, 16, HOLE, (PAD,), rng=np.random.default_rng(seed))
    loss = model.loss(inputs, targets, mask=real)
    loss.backward()
    theirs = dict(model.named_parameters())
    found = {name: theirs[bert_name(name)].grad for name in params}
    found = {name: g.T if g.ndim == 2 and name[0] != "w" else g for name, g in found.items()}
    assert len(found) == len(theirs) - 1  # all but the segments
    return (
        (targets != IGNORED).sum(),
        difference(page.bert(params, inputs, real, 2, H), model(inputs, mask=real).numpy()),
        difference(value, loss.item()),
        difference(grads, found),
    )


def test_bert_exactly():
    """Each token comes once before some are hidden, and 4 are hidden: one can divide by 4 and √d without
    rounding."""
    tokens = rng().permutation(16).reshape(2, 8)
    assert compare_bert(tokens, 0) == (4, 0.0, 0.0, 0.0)


def test_bert():
    """Any batch, with padding: gradients of one token are added in another order, and x / √d rounds otherwise
    than x · (1/√d)."""
    tokens = rng().integers(2, 16, (3, 7))
    tokens[0, -3:] = PAD
    count, *differences = compare_bert(tokens, 5, H=4)
    assert count >= 2
    assert max(differences) < 1e-15


def test_bert_hides_like_the_library():
    tokens = rng().integers(0, 16, (200, 7))
    ours = load("bert").hide(tokens, tokens != PAD, 16, HOLE, rng())
    inputs, targets = mask_tokens(tokens, 16, HOLE, (PAD,), rng=rng())
    np.testing.assert_array_equal(ours[0], inputs)
    np.testing.assert_array_equal(np.where(ours[1], tokens, IGNORED), targets)


# -- Llama -------------------------------------------------------------------------------------------


def llama_and_params(V=11, block_size=8, n=2, H=4, K=2, C=16, F=12):
    params = load("llama").init(V, n, C, H, K, F, rng())
    model = Llama(LlamaConfig(V, block_size, n, H, K, C, hidden=F), rng=rng()).astype(np.float64)
    set_weights(model, {llama_name(x): w.T if is_matrix(x, w) else w for x, w in params.items()})
    return model, params


def is_matrix(name, w):
    """Whether it is transposed in the library. The embedding is not."""
    return w.ndim == 2 and name != "wte"


def llama_name(name):
    i, _, layer = name.rpartition(".")
    kind = {"q": "attn.", "k": "attn.", "v": "attn.", "proj": "attn."}
    kind |= dict.fromkeys(("gate", "up", "down"), "mlp.")
    return f"h.{i}.{kind.get(layer, '')}{layer}.weight" if i else f"{'lm_' * (name == 'head')}{name}.weight"


def compare_llama(tokens, targets, **sizes):
    """The differences of logits, loss and gradients."""
    page = load("llama")
    model, params = llama_and_params(V=16, **sizes)
    grads = {}
    H, K = model.config.heads, model.config.kv_heads
    value = page.train_step(params, tokens, targets, 2, H, K, lambda _, g: grads.update(g))
    logits, loss = model(tokens, targets)
    loss.backward()
    theirs = {name: p.grad for name, p in model.named_parameters()}
    theirs = {x: theirs[llama_name(x)] for x in params}
    theirs = {x: g.T if is_matrix(x, g) else g for x, g in theirs.items()}
    return (
        difference(page.llama(params, tokens, 2, H, K), logits.numpy()),
        difference(value, loss.item()),
        difference(grads, theirs),
    )


def test_llama_exactly():
    """As with GPT: each token comes once, and B T and √d are powers of 2."""
    tokens, targets = rng().permutation(16).reshape(2, 8), rng().integers(0, 16, (2, 8))
    assert compare_llama(tokens, targets) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("sizes", [{"H": 2, "K": 1}, {"H": 8, "K": 8}, {"H": 6, "K": 3, "C": 12}])
def test_llama(sizes):
    """Any batch: gradients of one token are added in another order, and x / n and x · (1/n) round apart."""
    tokens, targets = rng().integers(0, 16, (2, 3, 7))
    assert max(compare_llama(tokens, targets, **sizes)) < 5e-16


def test_llama_samples():
    model, params = llama_and_params(block_size=12)
    params["norm"] *= 30.0  # far from uniform
    model.norm.weight.data = params["norm"]
    tokens = rng().integers(0, 11, (3, 2))
    ours = load("llama").sample(params, tokens, 10, 2, 4, 2, rng(), 0.5)
    assert ours.shape == (3, 12)
    np.testing.assert_array_equal(ours, model.sample(tokens, 10, 0.5, rng=rng()))


def test_llama_starts_like_the_library():
    params = load("llama").init(300, 2, 64, 4, 2, 176, rng())
    model = Llama(LlamaConfig(300, 8, 2, 4, 2, 64), rng=rng())
    theirs = dict(model.named_parameters())
    assert {llama_name(name) for name in params} == theirs.keys()
    for name, w in params.items():
        np.testing.assert_allclose(np.std(w), np.std(theirs[llama_name(name)].numpy()), rtol=0.05)


# -- LSTM --------------------------------------------------------------------------------------------

LSTM_NAMES = {
    "wte": "embedding.weight",
    "W": "layers.layers.0.weight_ih",
    "U": "layers.layers.0.weight_hh",
    "b": "layers.layers.0.bias_hh",
    "W_y": "head.weight",
    "b_y": "head.bias",
}


def lstm_and_params(V=11, C=8):
    """The library's layer has two biases, whose sum is the page's."""
    params = load("lstm").init(V, C, rng())
    model = RecurrentLM(V, C, rng=rng()).astype(np.float64)
    weights = {LSTM_NAMES[x]: w.T if x in ("W", "U", "W_y") else w for x, w in params.items()}
    set_weights(model, weights | {"layers.layers.0.bias_ih": np.zeros(4 * C)})
    return model, params


def test_lstm():
    """Two segments, the state carried: gradients of time steps are added in another order."""
    page, (model, params) = load("lstm"), lstm_and_params()
    text = rng().integers(0, 11, (3, 11))
    idx, targets, h = text[:, :-1], text[:, 1:], np.zeros((3, 8))
    grads, c = {}, h
    for i, loss in enumerate(model.segment_losses(idx, targets, 5)):
        part = slice(5 * i, 5 * i + 5)
        update = lambda _, g: grads.update(g)
        value, h, c = page.train_step(params, idx[:, part], targets[:, part], h, c, update)
        model.zero_grad()
        loss.backward()
        theirs = {name: p.grad for name, p in model.named_parameters()}
        assert difference(theirs["layers.layers.0.bias_ih"], theirs["layers.layers.0.bias_hh"]) == 0.0
        theirs = {x: theirs[name] for x, name in LSTM_NAMES.items()}
        theirs = {x: g.T if x in ("W", "U", "W_y") else g for x, g in theirs.items()}
        assert difference(value, loss.item()) < 1e-15
        assert difference(grads, theirs) < 1e-15
    logits, (end_h, end_c) = model(idx)
    zero = np.zeros((3, 8))
    ours, *_ = page.lstm(params, idx, zero, zero)
    assert difference(ours, logits.numpy()) < 1e-15
    assert max(difference(h, end_h.numpy()[0]), difference(c, end_c.numpy()[0])) < 1e-15


def test_lstm_samples():
    model, params = lstm_and_params()
    params["W_y"] *= 5.0  # far from uniform
    model.head.weight.data = params["W_y"].T
    tokens = rng().integers(0, 11, (3, 2))
    ours = load("lstm").sample(params, tokens, 10, rng(), 0.5)
    assert ours.shape == (3, 12)
    np.testing.assert_array_equal(ours, model.sample(tokens, 10, 0.5, rng=rng()))


def test_lstm_starts_like_the_library():
    params = load("lstm").init(300, 64, rng())
    theirs = dict(RecurrentLM(300, 64, rng=rng()).named_parameters())
    for name, w in params.items():
        np.testing.assert_allclose(np.std(w), np.std(theirs[LSTM_NAMES[name]].numpy()), rtol=0.1)


# -- WaveNet -----------------------------------------------------------------------------------------

WAVENET_NAMES = {"wte": "embedding.weight", "W_1": "hidden.weight", "W_2": "head.weight"} | {
    f"{x}{layer}": f"layers.{layer}.{name}.weight"
    for layer in range(3)
    for x, name in {"W": "conv", "V": "condition", "W_s": "skip", "W_r": "residual"}.items()
}


def wavenet_and_params(V=11, C=4, S=6):
    """The page has no biases."""
    params = load("wavenet").init(V, C, S, 3, 2, rng())
    model = WaveNet(V, C, S, (1, 2, 4), 2, rng=rng()).astype(np.float64)
    weights = {WAVENET_NAMES[x]: w.T if x.startswith("W") else w for x, w in params.items()}
    biases = {n: np.zeros(p.shape) for n, p in model.named_parameters() if n.endswith("bias")}
    set_weights(model, weights | biases)
    return model, params


def test_wavenet():
    page, (model, params) = load("wavenet"), wavenet_and_params()
    text, grads = rng().integers(0, 11, (3, 13)), {}
    idx, targets = text[:, :-1], text[:, 1:]
    value = page.train_step(params, idx, targets, idx % 2, 3, lambda _, g: grads.update(g))
    loss = model.loss(idx, targets, idx % 2)
    loss.backward()
    theirs = {name: p.grad for name, p in model.named_parameters()}
    theirs = {x: theirs[WAVENET_NAMES[x]] for x in params}
    theirs = {x: g.T if x.startswith("W") else g for x, g in theirs.items()}
    assert difference(value, loss.item()) < 1e-15
    assert difference(grads, theirs) < 1e-15
    ours = page.wavenet(params, idx, idx % 2, page.silence(3, 4, 3))
    assert difference(ours, model(idx, idx % 2).numpy()) < 1e-15


def test_wavenet_samples():
    model, params = wavenet_and_params()
    params["W_2"] *= 5.0  # far from uniform
    model.head.weight.data = params["W_2"].T
    tokens, classes = rng().integers(0, 11, (3, 2)), rng().integers(0, 2, (3, 11))
    ours = load("wavenet").sample(params, tokens, classes, 3, rng())
    assert ours.shape == (3, 12)
    np.testing.assert_array_equal(ours, model.sample(tokens, 10, rng=rng(), condition=classes))


# -- VAE ---------------------------------------------------------------------------------------------

VAE_NAMES = {"x": "encoder.fc", "mu": "encoder.mean", "logvar": "encoder.logvar"} | {
    "z": "decoder.fc",
    "y": "decoder.out",
}


def vae_and_params(D=8, H=8, J=4):
    params = load("vae").init(D, H, J, rng())
    model = VAE(D, H, J, rng=rng()).astype(np.float64)
    set_weights(
        model, {f"{VAE_NAMES[n[2:]]}.{'weight' if n[0] == 'W' else 'bias'}": w.T for n, w in params.items()}
    )
    return model, params


def test_vae():
    page = load("vae")
    model, params = vae_and_params()
    x, eps = rng().random((4, 8)), rng().standard_normal((4, 4), np.float32)  # the library draws in float32
    grads = {}
    value = page.train_step(params, x, Draws(eps.astype(np.float64)), lambda _, g: grads.update(g))
    loss = model.loss(x, rng=Draws(eps))
    loss.backward()
    theirs = dict(model.named_parameters())
    theirs = {
        f"{w}_{n}": theirs[f"{layer}.{kind}"].grad.T for n, layer in VAE_NAMES.items() for w, kind in KINDS
    }
    assert difference(value, loss.item()) == 0.0
    assert difference(grads, theirs) == 0.0


KINDS = (("W", "weight"), ("b", "bias"))


def test_style_transfer():
    """The library standardizes the pixels; the page takes them as they are."""
    page, alpha = load("style"), 0.3
    layers = page.init([4, 5], rng())
    network = VGG(((4,), (5,)), rng=0).astype(np.float64)
    for conv, (weight, bias) in zip(network.convs, layers, strict=True):
        conv.weight.data, conv.bias.data = weight, bias
    content, style, x = rng().uniform(-1, 1, (3, 1, 3, 8, 8))
    mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
    P, A = page.targets(layers, *(((y[0] + 1) / 2 - mean) / std for y in (content, style)))
    grads = {}
    params = {"x": ((x[0] + 1) / 2 - mean) / std}
    value = page.train_step(params, layers, P, A, alpha, lambda _, g: grads.update(g))
    goal = StyleTransfer(network, content, style, "conv2_1", ["conv1_1", "conv2_1"], alpha)
    y = Tensor(x, requires_grad=True)
    loss = goal.losses(y)["total"]
    loss.backward()
    assert difference(value, loss.item()) < 1e-13 * value
    assert difference(grads["x"] / (2 * std), y.grad[0]) < 1e-13 * np.abs(y.grad).max()


def test_vae_samples():
    model, params = vae_and_params()
    z = rng().standard_normal((5, 4))
    assert difference(load("vae").sample(params, 5, Draws(z)), model.sample(5, rng=Draws(z))) == 0.0


def test_vae_starts_like_the_library():
    params = load("vae").init(300, 500, 200, rng())
    model = VAE(300, 500, 200, rng=rng())
    for n, layer in VAE_NAMES.items():
        for w, kind in KINDS:
            bound = np.abs(dict(model.named_parameters())[f"{layer}.{kind}"].numpy()).max()
            np.testing.assert_allclose(np.abs(params[f"{w}_{n}"]).max(), bound, rtol=0.05)


# -- adversarial networks ----------------------------------------------------------------------------

GAN_NAMES = {"1": "start", "2": "hidden.0", "3": "out"}, {"1": "layers.0", "2": "layers.1", "3": "out"}


def gan_and_params(D=4, Z=8, H=8):
    params = load("gan").init(D, Z, H, rng())
    models = DenseGenerator(D, H, 2, Z, rng=0), DenseDiscriminator(D, H, 2, rng=0)
    for model, p, names in zip(models, params, GAN_NAMES, strict=True):
        kinds = {"W": "weight", "b": "bias"}
        set_weights(model.astype(np.float64), {f"{names[n[1]]}.{kinds[n[0]]}": w.T for n, w in p.items()})
    return models, params


def gan_grads(model, names):
    theirs = {name: p.grad for name, p in model.named_parameters()}
    return {f"{w}{i}": theirs[f"{layer}.{kind}"].T for i, layer in names.items() for w, kind in KINDS}


def test_gan():
    """Both losses and both gradients, the second derivatives of R1 among them."""
    (g, d), params = gan_and_params()
    x, grads = rng().standard_normal((8, 4)), []
    z = rng().standard_normal((2, 8, 8))
    record = lambda _, found: grads.append(found)
    losses = load("gan").train_step(*params, x, 0.5, Draws(z), record, record)
    of_d = logistic_loss(d(x), d(g(z[0]).data)) + 0.5 * r1_penalty(d, x)
    of_d.backward()
    theirs = [gan_grads(d, GAN_NAMES[1])]
    d.zero_grad()
    of_g = non_saturating_loss(d(g(z[1])))
    of_g.backward()
    theirs.append(gan_grads(g, GAN_NAMES[0]))
    assert difference(losses, (of_d.item(), of_g.item())) == 0.0
    assert difference(grads, theirs) == 0.0


def test_gan_samples():
    (g, _), (params, _) = gan_and_params()
    z = rng().standard_normal((5, 8))
    assert difference(load("gan").sample(params, 5, Draws(z)), g.sample(5, rng=Draws(z))) == 0.0


def test_gan_starts_like_the_library():
    for p, model, names in zip(
        load("gan").init(300, 400, 500, rng()),
        (DenseGenerator(300, 500, 2, 400, rng=0), DenseDiscriminator(300, 500, 2, rng=0)),
        GAN_NAMES,
        strict=True,
    ):
        theirs = {name: w.numpy() for name, w in model.named_parameters()}
        for w, kind in KINDS:
            for i, layer in names.items():
                if len(theirs[f"{layer}.{kind}"]) > 1:  # not the discriminator's last bias, one number
                    bound = np.abs(theirs[f"{layer}.{kind}"]).max()
                    np.testing.assert_allclose(np.abs(p[f"{w}{i}"]).max(), bound, rtol=0.05)


# -- diffusion ---------------------------------------------------------------------------------------


def eps_theta(p, x, t):
    """A small network of x (B, D) and t = 1 ... T. The library gives a network t - 1
    (`Schedule.timesteps`)."""
    return np.tanh(np.concatenate([x, t[:, None] / 10], axis=1) @ p["W"]) @ p["V"]


def ddpm_case(T=12):
    page = load("ddpm").DDPM(T, 0.01, 0.8)
    process = Process(schedule.Schedule(np.linspace(0.01, 0.8, T)), "eps")
    params = {"W": rng().standard_normal((4, 5)), "V": rng().standard_normal((5, 3))}
    return page, process, params


def test_ddpm_counts_as_the_library():
    page, library = load("ddpm").DDPM(1000), schedule.linear_schedule(1000)
    assert (page.beta[0], page.alpha_bar[0]) == (0.0, 1.0)
    assert difference(page.beta, library.beta) == 0.0
    assert difference(page.alpha_bar, library.alpha_bar) == 0.0


def test_ddpm():
    page, process, params = ddpm_case()
    x_0 = rng().standard_normal((50, 3))
    grads = {}
    value = page.train_step(eps_theta, params, x_0, rng(), lambda _, g: grads.update(g))
    theirs = value_and_grads(
        lambda p: simple_loss(process, lambda x, t: eps_theta(p, x, t + 1), x_0, rng=rng()), params
    )
    assert difference(value, theirs[0]) == 0.0
    assert difference(grads, theirs[1]) == 0.0


def test_ddpm_samples():
    """Algorithm 2 takes the mean of x_{t-1} from ε, the library from the x_0 that ε stands for (eq. 7)."""
    page, process, params = ddpm_case()
    ours = page.sample(eps_theta, params, (4, 3), rng())
    draw = rng()
    x = draw.standard_normal((4, 3))
    theirs = last_state(ancestral_sampling(process, lambda x, t: eps_theta(params, x, t + 1), x, rng=draw))
    assert difference(ours, theirs) < 1e-14 * np.abs(theirs).max()


# -- the hierarchical VAE ----------------------------------------------------------------------------

FACTORS = {"q1": "encoders.0", "q2": "encoders.1", "p1": "priors.0", "px": "decoder"}
KINDS_OF_LAYERS = {"h": "fc", "mu": "mean", "logvar": "logvar", "W": "weight", "b": "bias"}


def name_in_the_library(name):
    """Of a weight of the page: "q1.mu.W" is "encoders.0.mean.weight"."""
    factor, *rest = name.split(".")
    path = ".".join([FACTORS[factor], *(KINDS_OF_LAYERS[part] for part in rest)])
    return path.replace("decoder.mean", "decoder.out")


def ladder_and_params(D=8, H=8, J=4, K=2):
    params = load("hierarchical_vae").init(D, H, J, K, rng())
    model = HierarchicalVAE(D, H, (J, K), rng=rng()).astype(np.float64)
    set_weights(model, {name_in_the_library(n): w.T for n, w in params.items()})
    return model, params


def test_the_hierarchical_vae():
    model, params = ladder_and_params()
    x, noise = rng().random((4, 8)), [rng().standard_normal((4, n), np.float32) for n in (4, 2)]
    grads = {}
    draws = Draws(*(eps.astype(np.float64) for eps in noise))
    value = load("hierarchical_vae").train_step(params, x, draws, lambda _, g: grads.update(g))
    loss = model.loss(x, rng=Draws(*noise))
    loss.backward()
    theirs = dict(model.named_parameters())
    assert difference(value, loss.item()) == 0.0
    assert difference(grads, {n: theirs[name_in_the_library(n)].grad.T for n in params}) < 1e-15


def test_samples_of_the_hierarchical_vae():
    model, params = ladder_and_params()
    z = [rng().standard_normal((5, n), np.float32).astype(np.float64) for n in (2, 4)]
    ours = load("hierarchical_vae").sample(params, 5, Draws(*z))
    assert difference(ours, model.sample(5, rng=Draws(*z))) == 0.0


def test_the_hierarchical_vae_starts_like_the_library():
    params = load("hierarchical_vae").init(300, 500, 200, 100, rng())
    theirs = dict(HierarchicalVAE(300, 500, (200, 100), rng=rng()).named_parameters())
    for name, w in params.items():
        bound = np.abs(theirs[name_in_the_library(name)].numpy()).max()
        np.testing.assert_allclose(np.abs(w).max(), bound, rtol=0.1)


# -- flow matching -----------------------------------------------------------------------------------


def flow_case():
    params = {"W": rng().standard_normal((4, 5)), "V": rng().standard_normal((5, 3))}
    return load("flow_matching"), params


def test_flow_matching():
    page, params = flow_case()
    x_1 = rng().standard_normal((50, 3))
    grads = {}
    value = page.train_step(eps_theta, params, x_1, rng(), lambda _, g: grads.update(g))
    theirs = value_and_grads(
        lambda p: flow_matching_loss(lambda x, t: eps_theta(p, x, t), x_1, rng=rng()), params
    )
    assert difference(value, theirs[0]) == 0.0
    assert difference(grads, theirs[1]) == 0.0


def test_flow_matching_samples_and_their_density():
    page, params = flow_case()
    model = lambda x, t: eps_theta(params, x, t)
    ours = page.sample(eps_theta, params, (4, 3), 7, rng())
    theirs = last_state(midpoint(model, rng().standard_normal((4, 3)), 7))
    assert difference(ours, theirs) == 0.0
    theirs = flow_log_prob(model, ours, 7)
    assert difference(page.log_prob(eps_theta, params, ours, 7), theirs) == 0.0


# -- latent diffusion --------------------------------------------------------------------------------


def parameters(params):
    """In float64, where `nn.Parameter` alone would take float32."""
    p = {name: nn.Parameter(w) for name, w in params.items()}
    for name, w in params.items():
        p[name].replace(w)
    return p


class Autoencoder(AutoencoderKL):
    """The library's loss, around the page's two networks."""

    def __init__(self, params, f):
        self.config = SimpleNamespace(latent=2, factor=f, reconstruction="l2", kl_weight=1e-6)
        self.p = parameters(params)
        self.f = f
        self.register_buffer("scale", np.ones(()))

    def posterior(self, x):
        h = ops.silu(ops.conv2d(x, self.p["E1"], stride=self.f))
        return Posterior(*ops.split(ops.conv2d(h, self.p["E2"]), 2, axis=1))

    def to_pictures(self, z):
        return ops.conv_transpose2d(ops.silu(ops.conv2d(z, self.p["D1"])), self.p["D2"], stride=self.f)


class Denoiser(nn.Module):
    """The page's Transformer block, of the library's parts."""

    def __init__(self, params):
        self.unet = SimpleNamespace(config=SimpleNamespace(in_channels=2, out_channels=2))
        self.p = parameters(params)

    def text_encoder(self, captions):
        ids = np.array([[int(word) for word in c.split()] or [0, 0, 0] for c in captions])
        return self.p["word"][ids] + self.p["place"], np.ones(ids.shape, bool)

    def forward(self, x, t, context, mask):
        p = self.p
        time = timestep_embedding(t + 1, p["time"].shape[0]).astype(np.float64)
        h = x.reshape(len(x), 2, -1).transpose(0, 2, 1) @ p["in"] + p["position"]
        h = h + (time @ p["time"])[:, None]
        n = ops.layer_norm(h, p["ln1"])
        h = h + ops.attention(n @ p["q1"], n @ p["k1"], n @ p["v1"]) @ p["o1"]
        n = ops.layer_norm(h, p["ln2"])
        h = h + ops.attention(n @ p["q2"], context @ p["k2"], context @ p["v2"], mask[:, None]) @ p["o2"]
        h = h + ops.gelu(ops.layer_norm(h, p["ln3"]) @ p["fc1"]) @ p["fc2"]
        return (h @ p["out"]).transpose(0, 2, 1).reshape(x.shape)


def latent_case():
    page = load("latent_diffusion")
    first = page.init_autoencoder(3, 2, 4, 2, rng())
    params = page.init_diffusion(5, 3, 16, 2, 4, rng())
    params["out"] = rng().standard_normal(params["out"].shape)
    process = Process(schedule.sqrt_linear_schedule(40))
    return page, first, params, LatentDiffusion(Autoencoder(first, 2), Denoiser(params), process, 8)


def grads_of(module):
    return {name: w.grad for name, w in module.p.items()}


def test_the_autoencoder_of_latent_diffusion():
    page, first, _, model = latent_case()
    x, eps = rng().standard_normal((3, 3, 8, 8)), rng().standard_normal((3, 2, 4, 4), np.float32)
    value, grads = value_and_grads(lambda p: page.autoencoder_loss(p, x, eps.astype(np.float64)), first)
    loss = model.autoencoder.loss(x, rng=Draws(eps))
    loss.backward()
    assert difference(value, loss.item()) == 0.0
    assert difference(grads, grads_of(model.autoencoder)) == 0.0


def test_latent_diffusion():
    """A whole training step: which texts are left out, the steps, the noise, the loss and its gradients."""
    page, _, params, model = latent_case()
    z_0, y = rng().standard_normal((16, 2, 4, 4)), rng().integers(1, 5, (16, 3))
    assert difference(page.schedule(40), model.process.schedule.alpha_bar) < 1e-15
    grads = {}
    value = page.train_diffusion(params, z_0, y, page.schedule(40), rng(), lambda _, g: grads.update(g))
    loss = model.loss(z_0, [" ".join(map(str, row)) for row in y], rng=rng())
    loss.backward()
    # The library's cosines and sines of t are in float32, which is the whole difference.
    assert difference(value, loss.item()) < 1e-7
    assert difference(grads, grads_of(model.denoiser)) < 1e-7


def test_latent_diffusion_draws():
    """Guidance and DDIM in 8 of 40 steps, from the same noise."""
    page, first, params, model = latent_case()
    y, z = rng().integers(1, 5, (6, 3)), rng().standard_normal((6, 2, 4, 4))
    ours = page.sample(params, first, 0.5, y, z.shape, page.schedule(40), Draws(z), steps=8, w=2.0)
    model.autoencoder.scale.data = np.array(0.5)
    theirs = model.sample([" ".join(map(str, row)) for row in y], rng=Draws(z), guidance=3.0, steps=8)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


# -- ControlNet --------------------------------------------------------------------------------------


def control_case():
    """A UNet and a ControlNet with random weights, and the two halves of the UNet for the page: its encoder
    with the weights of the UNet (`base` is empty then) or of the ControlNet."""
    unet = UNet(UNetConfig(2, 2, 4, (1, 2), 1), rng=rng()).astype(np.float64)
    controlnet = ControlNet.copy_of(unet, 3, (6,), rng=rng()).astype(np.float64)
    for module in (unet, controlnet):
        for p in module.parameters():
            p.data = 0.3 * rng().standard_normal(p.shape)
    unet.freeze()

    def encoder(p, x, t, more):
        module = controlnet if p else unet
        conditioning = module.conditioning(t, None, None, None)
        middle, skips = module.feature_maps(module.conv_in(x) + more, conditioning)
        return [*skips, middle]

    def decoder(p, maps, t):
        h, skips = maps[-1], maps[:-1]
        for up in unet.up:
            h = up(h, unet.conditioning(t, None, None, None), skips)
        return unet.conv_out(ops.silu(unet.norm_out(h)))

    theirs = dict(controlnet.named_parameters())
    p = {"copy.conv_in": theirs["conv_in.weight"]}  # so that the page's copy is not empty
    p |= {"E1": theirs["hint.conv_in.weight"], "b1": theirs["hint.conv_in.bias"]}
    p |= {"E2": theirs["hint.conv_out.weight"], "b2": theirs["hint.conv_out.bias"]}
    zeros = [*controlnet.zero_skips, controlnet.zero_middle]
    for i, zero in enumerate(zeros):
        p |= {f"w{i}": zero.weight, f"z{i}": zero.bias}
    return unet, controlnet, encoder, decoder, p


def test_controlnet():
    """The loss, and the gradients of all parameters of the ControlNet."""
    page, (unet, controlnet, encoder, decoder, p) = load("controlnet"), control_case()
    x, c, eps = (rng().standard_normal((3, n, 8, 8)) for n in (2, 3, 2))
    t, alpha_bar = np.array([1, 5, 20]), page_schedule(20)
    ours = page.loss({}, p, encoder, decoder, x, t, c, eps, alpha_bar)
    ours.backward()
    grads = {name: w.grad for name, w in controlnet.named_parameters()}
    controlnet.zero_grad()
    a = alpha_bar[t][:, None, None, None]
    x_t = np.sqrt(a) * x + np.sqrt(1 - a) * eps
    theirs = np.mean((eps - unet(x_t, t, control=controlnet(x_t, t, c))) ** 2)
    theirs.backward()
    assert difference(ours.item(), theirs.item()) == 0.0
    assert difference(grads, {name: w.grad for name, w in controlnet.named_parameters()}) == 0.0


def page_schedule(T):
    """ᾱ_0 = 1, ᾱ_1, …, ᾱ_T of a schedule that ends in noise."""
    return np.append(1.0, np.cumprod(1 - np.linspace(0.01, 0.4, T)))


def test_controlnet_starts_as_the_base():
    """`init` and `ControlNet.copy_of`: the same zeros, and the first output is the UNet's."""
    page, (_, controlnet, *_) = load("controlnet"), control_case()
    channels = [*controlnet.skip_channels, controlnet.widths[-1]]
    ours = page.init({}, channels, 3, 6, rng())
    fresh = ControlNet.copy_of(UNet(UNetConfig(2, 2, 4, (1, 2), 1), rng=rng()), 3, (6,), rng=rng())
    assert {name for name, w in ours.items() if not w.any()} == ours.keys() - {"E1"}
    zeros = [zero.weight.data for zero in (*fresh.zero_skips, fresh.zero_middle)]
    for i, zero in enumerate(zeros):
        np.testing.assert_array_equal(ours[f"w{i}"], zero)


# -- CLIP --------------------------------------------------------------------------------------------

CLIP_LAYERS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc": "mlp.fc", "out": "mlp.proj"}


def clip_name(name):
    """The library's name of a parameter of the page."""
    whole = {"t": "logit_scale", "token": "text_encoder.token.weight", "first": "image_encoder.first"}
    whole |= {"patch": "image_encoder.patches.weight", "first_norm": "image_encoder.first_norm.weight"}
    if name in whole:
        return whole[name]
    tower, *number, layer = name.split(".")
    block = f"blocks.{number[0]}." if number else ""
    return f"{tower}_encoder.{block}{CLIP_LAYERS.get(layer, layer)}.weight"


def clip_and_params(n=2, H=2, C=8, D=4):
    """Five tokens, texts of four, pictures of 2 · 6 · 6 numbers, patches of 3 pixels; biases are 0."""
    params = load("clip").init(5, 4, 4, 2, 3, n, C, D, rng())
    config = TowerConfig(n, H, C)
    model = CLIP(
        VisionTransformer(6, 3, 2, config, D, rng=rng()), TextTower(5, 4, 4, config, D, rng=rng())
    ).astype(np.float64)
    theirs = dict(model.named_parameters())
    biases = {name for name in theirs if name.endswith("bias")}
    assert {clip_name(name) for name in params} == theirs.keys() - biases
    assert not any(theirs[name].numpy().any() for name in biases)
    for name, w in params.items():
        theirs[clip_name(name)].replace(w.T if is_clip_matrix(name, w) else w)
    return model, params


def is_clip_matrix(name, w):
    """Whether it is transposed in the library. Tables of tokens and positions are not."""
    return w.ndim == 2 and name != "token" and not name.endswith("place")


def test_clip():
    """B and √d are powers of 2, by which one can divide without rounding. The difference is 0 on most
    processors; on some, BLAS adds up the products of a transposed matrix in another order."""
    page = load("clip")
    model, params = clip_and_params()
    x, y = rng().standard_normal((4, 2, 6, 6)), rng().integers(0, 4, (4, 4))
    y[[0, 1, 2, 3], [1, 3, 2, 0]] = 4
    z, t, grads = page.logits(params, x, y, 2, 2), params["t"], {}
    value = page.train_step(params, x, y, 2, 2, lambda _, g: grads.update(g))
    loss = model.loss(x, y)
    loss.backward()
    theirs = {name: p.grad for name, p in model.named_parameters()}
    theirs = {name: theirs[clip_name(name)] for name in params}
    theirs = {name: g.T if is_clip_matrix(name, g) else g for name, g in theirs.items()}
    assert params["t"] == t
    assert difference(z, model(x, y).numpy()) < 1e-14
    assert difference(value, loss.item()) < 1e-14
    assert difference(grads, theirs) < 1e-13


def test_clip_clamps_like_the_library():
    page = load("clip")
    model, params = clip_and_params(n=1)
    params["t"] = np.array(6.0)
    model.logit_scale.data = np.array(6.0)
    x, y = rng().standard_normal((2, 2, 6, 6)), np.array([[0, 1, 2, 4], [1, 4, 4, 4]])
    page.train_step(params, x, y, 1, 2, lambda _, g: None)
    model.clamp_scale()
    assert difference(params["t"], model.logit_scale.numpy()) == 0.0


def test_clip_starts_like_the_library():
    params = load("clip").init(300, 200, 64, 3, 5, 2, 64, 50, rng())
    config = TowerConfig(2, 2, 64)
    image, text = (
        VisionTransformer(40, 5, 3, config, 50, rng=rng()),
        TextTower(300, 200, 1, config, 50, rng=1),
    )
    theirs = dict(CLIP(image, text).named_parameters())
    for name, w in params.items():
        if name != "first":  # 64 numbers
            np.testing.assert_allclose(np.std(w), np.std(theirs[clip_name(name)].numpy()), rtol=0.05)
    np.testing.assert_allclose(np.std(params["first"]), np.std(image.first.numpy()), rtol=0.3)


# -- PPO ---------------------------------------------------------------------------------------------


def ppo_case():
    params = load("ppo").init(4, 6, 3, rng())
    params["pi.W2"] = params["pi.W2"] * 100
    draw = rng()
    s, a = draw.standard_normal((3, 9, 4)), draw.integers(0, 3, (3, 8))
    return params, (s, a, draw.standard_normal((3, 8)), draw.random((3, 8)) < 0.2)


def test_gae():
    page = load("ppo")
    _, (_, _, r, done) = ppo_case()
    V = rng().standard_normal((3, 9))
    assert difference(page.gae(r, V, done, 0.9, 0.8), align_ppo.gae(r, V, done, 0.9, 0.8)) == 0.0


def library_ppo_loss(page, p, s, a, old, A, R):
    mask = np.ones(len(a), bool)
    log_p = ops.log_softmax(page.perceptron(p, "pi", s))
    new = -ops.cross_entropy(page.perceptron(p, "pi", s), a, reduction="none")
    policy = align_ppo.policy_loss(new, old, A, mask, clip=0.2)
    value = align_ppo.value_loss(page.perceptron(p, "V", s)[:, 0], R, R, mask, clip=None)
    return align_ppo.ppo_loss(policy, value, value_weight=0.5) - 0.01 * ops.entropy(log_p)


def test_ppo():
    page = load("ppo")
    params, _ = ppo_case()
    draw = rng()
    s, a = draw.standard_normal((40, 4)), draw.integers(0, 3, 40)
    old, A, R = -1 + 0.3 * draw.standard_normal(40), draw.standard_normal(40), draw.standard_normal(40)
    value, grads = value_and_grads(lambda p: page.ppo_loss(p, s, a, old, A, R, 0.2, 0.25, 0.01), params)
    theirs = value_and_grads(lambda p: library_ppo_loss(page, p, s, a, old, A, R), params)
    # The library puts the bounds on log ρ, so that no ratio overflows.
    assert difference(value, theirs[0]) < 1e-15
    assert difference(grads, theirs[1]) < 1e-15


def test_a_round_of_ppo():
    """Advantages, whitening, epochs and minibatches, with gradient descent."""
    page = load("ppo")
    params, (s, a, r, done) = ppo_case()
    start = dict(params)
    page.train_step(params, (s, a, r, done), descend(0.1), rng(), c_1=0.25, epochs=2, minibatches=3)
    draw, p = rng(), start
    V = page.perceptron(p, "V", s)[..., 0]
    A, R = (x.ravel() for x in align_ppo.gae(r, V, done, 0.99, 0.95))
    s, a = s[:, :-1].reshape(-1, 4), a.ravel()
    old = -ops.cross_entropy(page.perceptron(p, "pi", s), a, reduction="none")
    for _ in range(2):
        for i in draw.permutation(24).reshape(3, 8):
            A_i = align_ppo.whiten(A[i], np.ones(8, bool))
            batch = (s[i], a[i], old[i], A_i, R[i])
            _, grads = value_and_grads(lambda p, batch=batch: library_ppo_loss(page, p, *batch), p)
            p = {name: w - 0.1 * grads[name] for name, w in p.items()}
    assert difference(params, p) < 1e-14


def test_ppo_acts():
    page = load("ppo")
    params, (s, *_) = ppo_case()
    logits = page.perceptron(params, "pi", s[:, 0])
    draws = [(rng().spawn(i + 1)[i], rng().spawn(i + 1)[i]) for i in range(20)]
    for ours, theirs in draws:
        np.testing.assert_array_equal(page.act(params, s[:, 0], ours), sample(logits, theirs))


@pytest.mark.parametrize(("n", "m"), [(4, 6), (6, 4), (5, 5)])
def test_orthogonal(n, m):
    draw = rng().standard_normal((max(n, m), min(n, m)))
    theirs = nn.init.orthogonal((n, m), 3.0, rng=Draws(draw))
    assert difference(load("ppo").orthogonal(n, m, 3.0, Draws(draw)), theirs) == 0.0


# -- DPO ---------------------------------------------------------------------------------------------


def test_dpo():
    page, gpt = load("dpo"), load("gpt")
    model, params = gpt_and_params()
    params_ref = {name: w + 0.1 * rng().standard_normal(w.shape) for name, w in params.items()}
    y_w, y_l = rng().integers(0, 11, (2, 4, 8))
    mask = np.arange(8) >= np.array([[3], [3], [4], [2]])
    grads = {}
    args = (lambda p, tokens: gpt.gpt(p, tokens, 2, 2), params, params_ref, y_w, mask, y_l, mask)
    value = page.train_step(*args, 0.1, lambda _, g: grads.update(g))

    def log_pi(model, tokens):
        return align_dpo.response_log_probs(rollouts.token_log_probs(model, tokens), mask[:, 1:])

    reference, _ = gpt_and_params()
    set_weights_of_gpt(reference, params_ref)
    ref_w, ref_l = (log_pi(reference, y).numpy() for y in (y_w, y_l))
    h = align_dpo.margins(log_pi(model, y_w), log_pi(model, y_l), ref_w, ref_l)
    loss = align_dpo.dpo_loss(h, 0.1)
    loss.backward()
    assert difference(value, loss.item()) == 0.0
    assert (
        difference(grads, transposed_grads(model)) < 1e-16
    )  # two passes over one wte, and repeated tokens: another order
    rewards = page.implicit_reward(args[0], params, params_ref, y_w, mask, 0.1)
    assert difference(rewards, align_dpo.implicit_rewards(log_pi(model, y_w).numpy(), ref_w, 0.1)) == 0.0


def set_weights_of_gpt(model, params):
    set_weights(model, {gpt_name(n): w.T if w.ndim == 2 and n[0] != "w" else w for n, w in params.items()})


# -- AdamW -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_adamw(mode):
    """20 steps with a schedule. The library's definition multiplies θ by 1 - lr·weight_decay first, its fast
    step divides by √v + ε√(1 - β₂ᵗ): both round at other places than the page."""
    params = {"W": rng().standard_normal((3, 4)), "b": rng().standard_normal(4)}
    theirs = [Tensor(w.copy(), requires_grad=True) for w in params.values()]
    eta = lambda t: 1 / t
    ours = load("adamw").AdamW(params, 0.01, 0.8, 0.95, 1e-6, lam=0.003, eta=eta)
    library = AdamW(theirs, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    draw = rng()
    for t in range(1, 21):
        grads = {name: draw.standard_normal(w.shape) for name, w in params.items()}
        ours.update(params, grads)
        library.lr = eta(t) * 0.01
        for w, g in zip(theirs, grads.values(), strict=True):
            w.grad = g
        with tinygen.kernels(mode):
            library.step()
    assert difference(list(params.values()), [w.numpy() for w in theirs]) < 1e-15


# -- EM ----------------------------------------------------------------------------------------------


def test_em():
    """The likelihood and the responsibilities, and the parameters after 15 steps from the page's start."""
    page = load("em")
    x = rng().standard_normal((60, 3)) @ rng().standard_normal((3, 3)) + np.repeat(np.eye(3), 20, axis=0) * 4
    params = page.init(x, 3, rng())
    start = Parameters(params["pi"], params["mu"], params["Sigma"])
    model = GaussianMixture(3, tol=0, max_iter=15, rng=0)
    shares, log_likelihood = model.e_step(x, start)
    assert difference(page.e_step(params, x), shares) < 1e-14  # the sum of exponentials is another
    losses = [page.train_step(params, x) for _ in range(15)]
    assert difference(-losses[0], log_likelihood) < 1e-15
    with pytest.warns(UserWarning, match="EM has not converged in 15 steps"):
        model.fit(x, start=start)
    assert difference(losses, list(-model.log_likelihoods_[:-1])) < 1e-13  # likewise, step by step
    fitted = [model.weights_, model.means_, model.covariances_]
    assert difference([params[name] for name in ("pi", "mu", "Sigma")], fitted) < 1e-13  # likewise, 15 times
    assert difference(page.log_density(params, x), model.score_samples(x)) < 1e-13
    assert difference(page.sample(params, 9, rng()), model.sample(9, rng=rng())) < 1e-13


# -- all-reduce --------------------------------------------------------------------------------------

ways_to_reduce = pytest.mark.parametrize("way", ["ring_all_reduce", "tree_all_reduce"])


@ways_to_reduce
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 13])
@pytest.mark.parametrize("N", [0, 1, 3, 8, 29])
def test_all_reduce_is_the_sum(way, size, N):
    """Exactly, for whole numbers; also with fewer numbers than processes. The arguments stay as they were."""
    xs = rng().integers(-99, 99, (size, N))
    before = xs.copy()
    reduce = getattr(load("all_reduce"), way)
    sums = run_processes(size, lambda comm: reduce(xs[comm.rank], comm))
    for total in sums:
        assert np.array_equal(total, before.sum(axis=0))
    assert np.array_equal(xs, before)


@ways_to_reduce
@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_all_reduce_gives_all_processes_the_same_bits(way, size):
    """Rounding depends on the order of a sum, but each sum is computed only once."""
    xs = rng().standard_normal((size, 50)).astype(np.float32) * np.logspace(-3, 3, 50, dtype=np.float32)
    reduce = getattr(load("all_reduce"), way)
    sums = run_processes(size, lambda comm: reduce(xs[comm.rank], comm))
    assert all(np.array_equal(total, sums[0]) for total in sums)
    assert difference(sums[0] / np.abs(xs).sum(axis=0), xs.sum(axis=0) / np.abs(xs).sum(axis=0)) < 3e-7


@ways_to_reduce
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_a_data_parallel_step(way, size):
    """Unequal parts of a batch on several processes, beside the library with the whole batch."""
    page = load("all_reduce")
    x, y = rng().standard_normal((10, 4)), rng().standard_normal((10, 3))
    cuts = sorted(rng().choice(np.arange(1, 10), size - 1, replace=False))

    def squared_error(p):
        return np.mean(np.sum((x @ p["W"] + p["b"] - y) ** 2, axis=1)) / 2

    value, grads = value_and_grads(squared_error, page.init(4, 3, rng()))

    def work(comm):
        found = {}
        rows = np.split(np.arange(10), cuts)[comm.rank]
        reduce = getattr(page, way)
        update = lambda _, g: found.update(g)
        return page.train_step(page.init(4, 3, rng()), x[rows], y[rows], comm, update, reduce), found

    for loss, found in run_processes(size, work):
        assert difference(loss, value) < 5e-16
        assert difference(found, grads) < 5e-16
