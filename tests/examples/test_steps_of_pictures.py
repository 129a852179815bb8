"""The training loops of the models of pictures and points, step by step, compared with the same training
written out by hand: random numbers, the objective, the learning rate, clipping, the average of the
weights."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from by_hand import Loop, Training, constant, exact, flags, kl_to_standard, same, warmup_cosine
from example_runs import module

from tinygen import nn, no_grad, tape
from tinygen.data import shapes
from tinygen.diffusion import Process, cosine_schedule, linear_schedule
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.optim import EMA

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)


def like(x, values):
    """values (B,) beside x (B, ...)."""
    return np.asarray(values, np.float32).reshape(-1, *[1] * (x.ndim - 1))


def noisy(x, alpha_bar, rng):
    """Steps as networks count them, from 0, noise, and x_t = sqrt(ᾱ_t)·x + sqrt(1 - ᾱ_t)·noise, for data x
    (B, ...) in float32."""
    t = rng.integers(len(alpha_bar), size=len(x))
    noise = rng.standard_normal(x.shape, np.float32)
    alpha, sigma = like(x, np.sqrt(alpha_bar[t])), like(x, np.sqrt(1 - alpha_bar[t]))
    return t, noise, alpha * x + sigma * noise, alpha, sigma


def alpha_bar_cosine(steps):
    """Nichol & Dhariwal's eq. 17, with no β above 0.999."""
    f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))


# -- diffusions ------------------------------------------------------------------------------------


def test_diffusion_2d(monkeypatch):
    example = module("diffusion_2d.py")
    args = flags(monkeypatch, example, timesteps=25, batch=6, steps=4, lr=0.02, ema=0.25, eval_every=3)
    data, process = example.DATA["ring"](), Process(linear_schedule(25))
    model, other = exact(Denoiser(2, 8, waves=2, rng=np.random.default_rng(1)))
    ema, run = EMA(model, args.ema), Loop(4)

    def excess(learned, *given):
        assert given == (data, process, 500, args.seed + 2)
        same(model, ema.average)  # of the averaged weights
        return np.array([0.5, 1.5]), None, None

    monkeypatch.setattr(example, "excess_loss", excess)
    example.train(model, ema, data, process, args, run)

    rng, training, losses = np.random.default_rng(args.seed + 1), Training(other, clip=1.0, average=0.25), []
    alpha_bar = np.cumprod(1 - np.linspace(1e-4 * 40, 0.02 * 40, 25))
    for step in range(4):
        x = data.sample(6, rng).astype(np.float32)
        t, noise, x_t, _, _ = noisy(x, alpha_bar, rng)
        loss = np.mean((other(x_t, t) - noise) ** 2)
        losses.append(training.step(loss, warmup_cosine(step, 0.02, 0.0002, 2, 4)))
    same(model, other, 1e-6)
    same(ema.average, training.average, 1e-6)
    np.testing.assert_allclose(run.column("batch_loss"), losses, rtol=1e-6)
    assert run.losses() == run.column("batch_loss")
    assert run.column("step") == [0, 1, 2, 3, 3, 4]
    assert [row for row in run.rows if "excess" in row] == [{"step": n, "excess": 1.0} for n in (3, 4)]
    assert run.lines == [f"step     {n}   loss above the floor 1.00000" for n in (3, 4)]


def test_what_diffusion_2d_measures(monkeypatch):
    """The mean over points of the squared distance to the best prediction, its standard error, the loss."""
    example = module("diffusion_2d.py")
    data, process = example.DATA["ring"](), Process(linear_schedule(25))
    scale, recorded = nn.Parameter(np.array(0.1), np.float64), []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    above, error, loss = example.excess_loss(lambda x, t: (scale * x).data + t[:, None], data, process, 7, 3)
    assert not recorded
    rng = np.random.default_rng(3)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4 * 40, 0.02 * 40, 25))
    for t in range(25):
        x0, noise = data.sample(7, rng), rng.standard_normal((7, 2))
        alpha, sigma = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
        x = alpha * x0 + sigma * noise
        each = ((0.1 * x + t - data.eps(x, alpha, sigma)) ** 2).mean(axis=1)
        assert above[t] == pytest.approx(each.mean())
        assert error[t] == pytest.approx(each.std() / np.sqrt(7))
        assert loss[t] == pytest.approx(np.mean((0.1 * x + t - noise) ** 2))


def test_ddpm_digits(monkeypatch):
    """The class is withheld now and then: here at every second digit."""
    example = module("ddpm_digits.py")
    args = flags(monkeypatch, example, timesteps=9, batch=5, steps=4, lr=0.01, ema=0.2, drop=0.5)
    pictures = np.random.default_rng(0).standard_normal((11, 1, 4, 4), np.float32)
    data = SimpleNamespace(pictures=pictures, labels=np.arange(11) % 10)
    config = UNetConfig(1, 1, 4, (1,), blocks=1, attention=(True,), classes=10, groups=2)
    model, other = exact(UNet(config, rng=np.random.default_rng(1)))
    ema, run = EMA(model, args.ema), Loop(4)
    example.train_model(model, ema, Process(cosine_schedule(9)), data, args, run)

    rng = np.random.default_rng(args.seed + 1)
    training = Training(other, clip=1.0, decay=lambda p: 0.01, average=0.2)
    seen, losses = [], []
    for step in range(4):
        these, withheld = rng.integers(11, size=5), rng.random(5) < 0.5
        seen += [*withheld]
        labels = np.array([10 if w else data.labels[i] for i, w in zip(these, withheld, strict=True)])
        t, noise, x_t, _, _ = noisy(pictures[these], alpha_bar_cosine(9), rng)
        loss = np.mean((other(x_t, t, labels=labels) - noise) ** 2)
        losses.append(training.step(loss, warmup_cosine(step, 0.01, 0.001, 2, 4)))
    assert 3 < sum(seen) < 17
    np.testing.assert_allclose(run.column("loss"), losses, rtol=1e-6)
    assert run.losses() == run.column("loss")
    assert run.column("step") == [0, 1, 2, 3]
    same(model, other, 1e-6)
    same(ema.average, training.average, 1e-6)


def test_inpaint_shapes(monkeypatch):
    """The model says v = sqrt(ᾱ)·noise - sqrt(1 - ᾱ)·x0."""
    example = module("inpaint_shapes.py")
    args = flags(
        monkeypatch, example, timesteps=9, paint_steps=5, batch=2, steps=4, lr=0.01, ema=0.2, eval_every=3
    )
    monkeypatch.setattr(example, "SIDE", 16)
    monkeypatch.setattr(example, "batch", lambda n, side, rng: shapes.batch(min(n, 4), side, rng))
    config = UNetConfig(3, 3, 4, (1,), blocks=1, attention=(True,), groups=2)
    model, other = exact(UNet(config, rng=np.random.default_rng(1)))
    ema, run, process = EMA(model, args.ema), Loop(4), Process(cosine_schedule(9), "v")

    def unseen_loss(*given):
        assert given == (model, process, args)
        same(model, ema.average)  # of the averaged weights
        return 0.25

    monkeypatch.setattr(example, "unseen_loss", unseen_loss)
    example.train(model, ema, process, args, run)

    rng, training = np.random.default_rng(args.seed + 1), Training(other, clip=1.0, average=0.2)
    losses = []
    for step in range(4):
        x = shapes.batch(2, 16, rng)[0]
        t, noise, x_t, alpha, sigma = noisy(x, alpha_bar_cosine(9), rng)
        loss = np.mean((other(x_t, t) - (alpha * noise - sigma * x)) ** 2)
        losses.append(training.step(loss, warmup_cosine(step, 0.01, 0.0001, 2, 4)))
    np.testing.assert_allclose(run.column("batch_loss"), losses, rtol=1e-6)
    assert run.losses() == run.column("batch_loss")
    assert run.column("step") == [0, 1, 2, 3, 3, 4]
    assert [row for row in run.rows if "val_loss" in row] == [{"step": n, "val_loss": 0.25} for n in (3, 4)]
    assert run.lines == [f"step     {n}   loss of the averaged weights 0.2500" for n in (3, 4)]
    same(model, other, 1e-6)
    same(ema.average, training.average, 1e-6)


def test_the_loss_on_unseen_shapes(monkeypatch):
    """On 256 pictures of a seed of its own, at steps from the first to the last."""
    example = module("inpaint_shapes.py")
    args = flags(monkeypatch, example, timesteps=8, paint_steps=8, seed=4)
    monkeypatch.setattr(example, "SIDE", 16)
    alpha_bar = alpha_bar_cosine(8)[np.arange(256) // 32]
    rng = np.random.default_rng(6)
    x = shapes.batch(256, 16, rng)[0]
    noise = rng.standard_normal(x.shape, np.float32)
    alpha, sigma = like(x, np.sqrt(alpha_bar)), like(x, np.sqrt(1 - alpha_bar))
    scale, recorded = nn.Parameter(np.array(0.5)), []
    model = lambda x_t, t: scale * x_t + like(x, t)
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    got = example.unseen_loss(model, Process(cosine_schedule(8), "v"), args)
    assert not recorded
    model = lambda x_t, t: 0.5 * x_t + like(x, t)
    error = model(alpha * x + sigma * noise, np.arange(256) // 32) - (alpha * noise - sigma * x)
    wanted = np.mean(error**2)
    assert got == pytest.approx(wanted, rel=1e-5)


def test_latent_diffusion_shapes(monkeypatch):
    """First the autoencoder alone, then the scale of its codes, then UNet and text encoder, whose average is
    what stays; a tenth of the captions is left out."""
    example = module("latent_diffusion_shapes.py")
    args = flags(
        monkeypatch, example, ae_steps=2, ae_channels=4, diffusion_steps=3, channels=8, batch=12, drawings=1
    )
    asked = []
    few = lambda n, side, rng: asked.append((n, side)) or shapes.batch(min(n, 8), side, rng)
    monkeypatch.setattr(example, "batch", few)
    model, other = exact(example.build(args))
    run, losses = Loop(5), {"autoencoder_loss": [], "diffusion_loss": []}
    example.train(model, args, run)

    rng, first, second = np.random.default_rng(args.seed + 2), other.autoencoder, other.denoiser
    training = Training(first, clip=1.0)
    kept = first.config
    assert (kept.reconstruction, kept.kl_weight) == ("l2", 1e-6)
    for step in range(2):
        x = shapes.batch(6, 32, rng)[0]
        q = first.posterior(x)
        noise = rng.standard_normal(q.mean.shape, np.float32)
        picture = first.to_pictures(q.mean + np.exp(q.logvar / 2) * noise)
        loss = (((picture - x) ** 2).sum() + 1e-6 * kl_to_standard(*q)) / 6 / (3 * 32 * 32)
        rate = warmup_cosine(step, args.ae_lr, args.ae_lr / 50, 1, 2)
        losses["autoencoder_loss"].append(training.step(loss, rate))
    codes = first.encode(shapes.batch(8, 32, rng)[0])
    first.scale.data = np.asarray(1 / codes.std(), np.float32)
    assert model.autoencoder.scale.data == pytest.approx(1 / codes.std(), rel=1e-6)

    drawings, scenes = shapes.batch(8, 32, np.random.default_rng(args.seed + 1))
    codes = first.encode(drawings) * first.scale.data
    captions = [shapes.caption(scene) for scene in scenes]
    training, dropped = Training(second, betas=(0.9, 0.99), clip=1.0, average=0.999), 0
    for step in range(3):
        chosen = rng.integers(8, size=12)
        left_out = rng.random(12) < 0.1
        dropped += left_out.sum()
        texts = ["" if out else captions[i] for i, out in zip(chosen, left_out, strict=True)]
        context, mask = second.text_encoder(texts)
        z = codes[chosen]
        t = rng.integers(500, size=12)
        noise = rng.standard_normal(z.shape)
        alpha_bar = alpha_bar_cosine(500)[t].reshape(-1, 1, 1, 1)
        alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
        v = second.unet(alpha * z + sigma * noise, t, context=context, mask=mask)
        loss = np.mean((v - (alpha * noise - sigma * z)) ** 2)
        rate = warmup_cosine(step, args.lr, args.lr / 50, 1, 3)
        losses["diffusion_loss"].append(training.step(loss, rate))
    assert dropped > 0
    for name, values in losses.items():
        np.testing.assert_allclose(run.column(name), values, rtol=1e-5)
    assert run.column("step") == [0, 1, 2, 3, 4]
    assert asked == [
        (6, 32),
        (6, 32),
        (256, 32),
        (256, 32),
    ]  # two steps, for the scale, drawings to learn from
    assert run.losses() == run.column("autoencoder_loss") + run.column("diffusion_loss")
    assert [note for _, note in run.shown] == 2 * [" of the autoencoder"] + 3 * [" of the diffusion"]
    assert run.stages == ["diffusion"]
    same(run.kept["autoencoder"], {name: x.data for name, x in model.autoencoder.state_dict().items()})
    args.drawings = 257
    codes, captions = example.make_codes(model, args)
    assert (len(codes), len(captions)) == (16, 16)  # of two batches
    same(model.autoencoder, first, 1e-5)
    same({name: p.data for name, p in model.denoiser.named_parameters()}, training.average, 1e-5)


# -- autoencoders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_vae_digits(monkeypatch, kind, pixels):
    """Two models see the same digits: E_q[-ln p(x|z)] + β KL, a picture; and what is told of them is the
    bound itself, with the whole KL whatever their β."""
    example = module("vae_digits.py")
    more = {
        "model": kind,
        "pixels": pixels,
        "latent": 2,
        "batch": 3,
        "steps": 4,
        "lr": 0.01,
        "small_beta": 0.3,
    }
    args = flags(monkeypatch, example, **more, eval_every=3)
    build = lambda: [example.build(beta, args) for beta in (1.0, args.small_beta)]
    models, others = exact(example.nn.ModuleList(build()))
    x, y = np.random.default_rng(0).random((2, 9, 1, 8, 8)).astype(np.float32)
    train, test = (example.as_inputs(2 * part - 1, args) for part in (x, y))
    run = Loop(4)
    example.learn_both(models, train, test, args, run)

    def terms(model, x, rng):
        q = model.encoder(x)
        noise = rng.standard_normal(q.mean.shape, np.float32)
        out = model.decoder(q.mean + np.exp(q.logvar / 2) * noise)
        if pixels == "gaussian":
            logvar = model.pixels.logvar
            nll = 0.5 * ((x - out) ** 2 * np.exp(-logvar) + logvar + np.log(2 * np.pi))
        else:
            nll = np.log(1 + np.exp(out)) - x * out
        return nll.sum() / len(x), kl_to_standard(*q) / len(x)

    rng, training, losses = np.random.default_rng(args.seed + 1), Training(others), []
    for step in range(4):
        batch = train[rng.integers(9, size=3)]
        (first, kl), (second, small_kl) = (terms(model, batch, rng) for model in others)
        loss = first + kl + second + 0.3 * small_kl
        losses.append(training.step(loss, warmup_cosine(step, 0.01, 0.0, 2, 4)))
    same(models, others, 1e-7)
    np.testing.assert_allclose(run.losses(), losses, rtol=1e-6)

    look = np.random.default_rng(args.seed + 2)
    told = {}
    for name, model, x in (("train", 0, train), ("test", 0, test), ("small_beta", 1, test)):
        told[name] = sum(term.item() for term in terms(others[model], x, look))
    assert run.rows[-1] == pytest.approx({"step": 4, **told}, rel=1e-6)
    assert run.column("step") == [3, 4]
    line = "step     4   train {train:.2f}   test {test:.2f}   small_beta {small_beta:.2f} nats"
    assert run.lines[-1] == line.format(**told)
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    example.bound(models[0], train, look)
    assert not recorded


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_vqvae_shapes(monkeypatch, codebook):
    """Reconstruction through the codes, straight through to the encoder; commitment with β; the codes follow
    as means, or by the gradient of their own term. Codes that nobody chooses start anew."""
    example = module("vqvae_shapes.py")
    args = flags(
        monkeypatch,
        example,
        batch=2,
        steps=3,
        lr=0.01,
        codebook=codebook,
        decay=0.6,
        beta=0.4,
        eval_every=2,
    )
    monkeypatch.setattr(example, "SIDE", 16)
    make = VQVAE(3, 4, 2, 40, args.beta, codebook == "ema", args.decay, rng=np.random.default_rng(1))
    model, other = exact(make)
    tests = {"train": shapes.batch(2, 16, np.random.default_rng(5))[0]}
    run = Loop(3)
    example.train_model(model, tests, args, run)
    assert run.column("step") == [1, 2, 2, 3, 3]
    assert [row["step"] for row in run.rows if "reconstruction" not in row] == [2, 3]

    rng, training = np.random.default_rng(args.seed + 1), Training(other)
    other.restart(shapes.batch(2, 16, rng)[0], below=np.inf, rng=rng)
    quantizer, told = other.quantizer, []
    for step in range(3):
        x = shapes.batch(2, 16, rng)[0]
        z = other.encoder(x)
        rows = constant(z).transpose(0, 2, 3, 1).reshape(-1, 2)
        book = quantizer.codebook.data
        codes = np.square(rows[:, None] - book).sum(axis=2).argmin(axis=1)
        at_places = lambda vectors: np.transpose(vectors.reshape(2, 4, 4, 2), (0, 3, 1, 2))
        e = at_places(quantizer.codebook[codes] if codebook == "gradient" else book[codes])
        picture = other.decoder(constant(e) + z - constant(z))
        error, commitment = np.mean((picture - x) ** 2), np.mean((z - constant(e)) ** 2)
        loss = error + 0.4 * commitment
        if codebook == "gradient":
            loss = loss + np.mean((e - constant(z)) ** 2)
        else:
            chosen = np.eye(40)[codes]
            count = 0.6 * quantizer.count.data + 0.4 * chosen.sum(axis=0)
            total = 0.6 * quantizer.total.data + 0.4 * chosen.T @ rows
            n = count.sum()
            quantizer.total.data = total
            quantizer.codebook.data = total / ((count + 1e-5) * n / (n + 40e-5))[:, None]
        quantizer.count.data = 0.6 * quantizer.count.data + 0.4 * np.bincount(codes, minlength=40)
        training.step(loss, warmup_cosine(step, 0.01, 0.0005, 1, 3))
        if step == 0:  # and every 50 steps
            assert other.restart(x, rng=rng) > 0
        told.append((error.item(), commitment.item()))
    same(model, other, 1e-7)
    for name in ("codebook", "count"):
        ours, theirs = (getattr(m.quantizer, name).data for m in (model, other))
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    totals = [error + 0.4 * commitment for error, commitment in told]
    if codebook == "ema":
        np.testing.assert_allclose(run.losses(), totals, rtol=1e-7)
    logged = list(zip(run.column("reconstruction"), run.column("commitment"), strict=True))
    np.testing.assert_allclose(logged, told, rtol=1e-7)
    with no_grad():
        made, codes = example.reconstruct(copy.deepcopy(model), tests["train"])
    assert made.shape == tests["train"].shape
    assert codes.shape == (2, 4, 4)


def test_when_codes_of_vqvae_shapes_start_anew(monkeypatch):
    """All of them before the first step, unused ones after every 50th step of the first three quarters."""
    example = module("vqvae_shapes.py")
    args = flags(monkeypatch, example, batch=2, steps=200, eval_every=101, codes=7)
    monkeypatch.setattr(example, "SIDE", 16)
    model, anew = VQVAE(3, 4, 2, 7, rng=1), []
    monkeypatch.setattr(
        model, "restart", lambda x, **given: anew.append((at[-1], len(x), given.get("below")))
    )
    looked = lambda _, pictures: (pictures, np.arange(len(pictures)))
    monkeypatch.setattr(example, "reconstruct", looked)
    monkeypatch.setattr(example, "psnr", lambda made, truth: float(len(made)) * (len(made) == len(truth)))
    monkeypatch.setattr(example, "perplexity", lambda codes, k: len(codes) + k / 10)
    run, at = Loop(200), []
    run.loop = lambda things: (at.append(step) or step for step in (0, 49, 50, 100, 149, 150))
    tests = {"train": np.zeros((201, 3, 16, 16)), "held_out": np.zeros((3, 3, 16, 16))}
    example.train_model(model, tests, args, run)
    assert anew == [(0, 2, np.inf), *((step, 2, None) for step in (0, 50, 100))]
    seen = [row for row in run.rows if "train" in row]
    assert seen == [{"step": 101, "train": 200.0, "held_out": 3.0, "perplexity": 3.7}]
    assert run.lines == ["step   101   PSNR in dB: train 200.00   perplexity 3.70   held_out 3.00"]
