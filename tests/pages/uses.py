"""Every page used from beginning to end, on a set so small that it is learned at once: parameters, training,
sampling. Each function trains for some steps and returns the losses."""

import numpy as np
from in_threads import run_processes
from pages.page import load

from tinygen import ops


def optimizer(params, alpha=0.02):
    return load("adamw").AdamW(params, alpha).update


def engine(steps):
    page, rng = load("engine"), np.random.default_rng(0)
    params = [rng.standard_normal(shape) for shape in ((2, 8), (8,), (8, 2), (2,))]
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    xor = np.eye(2)[[0, 1, 1, 0]]
    return [page.train_step(params, x, xor, 1.0) for _ in range(steps)]


def gpt(steps):
    page, rng = load("gpt"), np.random.default_rng(0)
    params = page.init(7, 8, 2, 12, rng)
    update = optimizer(params)
    text = np.arange(40) % 7
    batch = text[np.arange(4)[:, None] + np.arange(9)]
    losses = [page.train_step(params, batch[:, :-1], batch[:, 1:], 2, 3, update) for _ in range(steps)]
    written = page.sample(params, text[None, :3], 12, 2, 3, rng, temperature=0.1)
    assert written.shape == (1, 15)
    assert steps < 50 or np.array_equal(written[0], text[:15])
    return losses


def bert(steps):
    """Texts that count: a hidden token follows from its neighbors on both sides."""
    page, rng = load("bert"), np.random.default_rng(0)
    params = page.init(9, 8, 1, 12, 16, rng)
    update = optimizer(params)
    tokens = 2 + (rng.integers(0, 7, (32, 1)) + np.arange(8)) % 7
    real = np.arange(8) < rng.integers(6, 9, (32, 1))
    tokens = np.where(real, tokens, 0)
    return [page.train_step(params, tokens, real, 1, 1, 3, rng, update) for _ in range(steps)]


def llama(steps):
    page, rng = load("llama"), np.random.default_rng(0)
    params = page.init(7, 2, 12, 3, 1, 16, rng)
    update = optimizer(params)
    text = np.arange(40) % 7
    batch = text[np.arange(4)[:, None] + np.arange(9)]
    losses = [page.train_step(params, batch[:, :-1], batch[:, 1:], 2, 3, 1, update) for _ in range(steps)]
    written = page.sample(params, text[None, :3], 12, 2, 3, 1, rng, temperature=0.1)
    assert written.shape == (1, 15)
    assert steps < 50 or np.array_equal(written[0], text[:15])
    return losses


def translation(steps):
    """Texts of two or three letters, padded, into the same letters in reverse."""
    page, rng = load("translation"), np.random.default_rng(0)
    params = page.init(7, 1, 12, 16, rng)
    update = optimizer(params, 0.01)
    letters = np.array([[a, b, c] for a in (3, 4, 5, 6) for b in (3, 4, 5, 6) for c in (0, 3, 6)])  # (48, 3)
    source = np.append(letters, np.zeros((48, 1), int), axis=1)
    target = np.array([[1, *[x for x in row[::-1] if x], 2, *[0] * (row == 0).sum()] for row in letters])
    losses = [page.train_step(params, source, target, 1, 3, 0.01, update) for _ in range(steps)]
    written = page.translate(params, source, 4, 1, 3)
    assert written.shape == (48, 4)
    right = (written == target[:, 1:]) | (target[:, 1:] == 0)
    assert steps < 50 or right.all(axis=1).mean() > 0.9
    return losses


def lstm(steps):
    """A text of period 7, in segments of 5 tokens: the state is carried to the next."""
    page, rng = load("lstm"), np.random.default_rng(0)
    params, losses = page.init(7, 12, rng), []
    update, text = optimizer(params, 0.05), np.arange(5 * steps + 13) % 7
    h = c = np.zeros((4, 12))
    for step in range(steps):
        batch = text[np.arange(4)[:, None] + np.arange(5 * step, 5 * step + 6)]
        loss, h, c = page.train_step(params, batch[:, :-1], batch[:, 1:], h, c, update)
        losses.append(loss)
    written = page.sample(params, text[None, :3], 12, rng, temperature=0.1)
    assert written.shape == (1, 15)
    assert steps < 50 or np.array_equal(written[0], np.arange(15) % 7)
    return losses


def wavenet(steps):
    """Two melodies of period 3 over 4 tokens, chosen by the class."""
    page, rng = load("wavenet"), np.random.default_rng(0)
    params = page.init(5, 8, 8, 3, 2, rng)
    update = optimizer(params, 0.02)
    text = np.stack([np.arange(13) % 3, 2 + np.arange(13) % 3])
    classes = np.repeat([[0], [1]], 12, axis=1)
    losses = [page.train_step(params, text[:, :-1], text[:, 1:], classes, 3, update) for _ in range(steps)]
    written = page.sample(params, text[:, :1], classes[:, :8], 3, rng)
    assert written.shape == (2, 9)
    assert steps < 50 or np.mean(written == text[:, :9]) > 0.9
    return losses


def vae(steps):
    page, rng = load("vae"), np.random.default_rng(0)
    params = page.init(6, 16, 2, rng)
    update = optimizer(params)
    x = np.repeat([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], 8, axis=0)
    losses = [page.train_step(params, x, rng, update) for _ in range(steps)]
    pictures = page.sample(params, 20, rng)
    assert pictures.shape == (20, 6)
    assert steps < 50 or np.all(np.abs(pictures[:, 0] + pictures[:, 5] - 1) < 0.2)
    return losses


def hierarchical_vae(steps):
    page, rng = load("hierarchical_vae"), np.random.default_rng(0)
    params = page.init(6, 16, 2, 1, rng)
    update = optimizer(params)
    x = np.repeat([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], 8, axis=0)
    losses = [page.train_step(params, x, rng, update) for _ in range(steps)]
    pictures = page.sample(params, 20, rng)
    assert pictures.shape == (20, 6)
    assert steps < 50 or np.mean(np.abs(pictures[:, 0] + pictures[:, 5] - 1)) < 0.2
    return losses


def denoiser(p, x, t):
    h = np.tanh(np.concatenate([x, t[:, None] / 20], axis=1) @ p["W1"] + p["b1"])
    return np.tanh(h @ p["W2"]) @ p["W3"]


def ddpm(steps):
    rng = np.random.default_rng(0)
    page = load("ddpm").DDPM(20, 0.01, 0.4)
    params = {
        name: 0.5 * rng.standard_normal(s) for name, s in {"W1": (2, 32), "b1": (32,), "W2": (32, 32)}.items()
    }
    params["W3"] = np.zeros((32, 1))
    update = optimizer(params)
    x_0 = rng.choice([-1.0, 1.0], (64, 1))
    losses = [page.train_step(denoiser, params, x_0, rng, update) for _ in range(steps)]
    x = page.sample(denoiser, params, (200, 1), rng)
    assert x.shape == (200, 1)
    assert steps < 50 or np.mean(np.abs(np.abs(x) - 1) < 0.3) > 0.8
    return losses


def flow_matching(steps):
    """Two points, as for DDPM. The points drawn are more probable than those between them."""
    page, rng = load("flow_matching"), np.random.default_rng(0)
    shapes = {"W1": (2, 32), "b1": (32,), "W2": (32, 32)}
    params = {name: 0.5 * rng.standard_normal(s) for name, s in shapes.items()}
    params["W3"] = np.zeros((32, 1))
    v_theta = lambda p, x, t: denoiser(p, x, 20 * t)  # it divides by 20
    update = optimizer(params)
    x_1 = rng.choice([-1.0, 1.0], (64, 1))
    losses = [page.train_step(v_theta, params, x_1, rng, update) for _ in range(steps)]
    x = page.sample(v_theta, params, (200, 1), 20, rng)
    log_p = page.log_prob(v_theta, params, np.array([[-1.0], [0.0], [1.0]]), 20)
    assert x.shape == (200, 1)
    assert steps < 50 or np.mean(np.abs(np.abs(x) - 1) < 0.3) > 0.8
    assert steps < 50 or log_p[1] < min(log_p[0], log_p[2]) - 1
    return losses


def latent_diffusion(steps):
    """Pictures of two pixels: what the text says stands on the left, its opposite on the right."""
    page, rng = load("latent_diffusion"), np.random.default_rng(0)
    y = rng.integers(1, 3, (32, 2))
    sides = np.array([0.0, -1.0, 1.0])[y]  # (32, 2)
    x = np.repeat(np.repeat(sides, 2, axis=1)[:, None, None], 4, axis=2) * np.ones(
        (1, 2, 1, 1)
    )  # (32, 2, 4, 4)
    first = page.init_autoencoder(2, 2, 8, 1, rng)
    update, code_shape = optimizer(first), (32, 1, 2, 2)
    losses = [page.train_autoencoder(first, x, code_shape, rng, update) for _ in range(steps)]
    assert steps < 50 or losses[-1] < 0.1 * losses[0]
    z_0, _ = page.encode(first, x)
    scale, alpha_bar = 1 / z_0.std(), page.schedule(40)
    params = page.init_diffusion(3, 2, 4, 1, 16, rng)
    update = optimizer(params, 0.01)
    losses = [page.train_diffusion(params, scale * z_0, y, alpha_bar, rng, update) for _ in range(steps)]
    drawn = page.sample(params, first, scale, y, code_shape, alpha_bar, rng, steps=5, w=1.0)
    assert drawn.shape == x.shape
    assert steps < 50 or np.mean(np.sign(drawn) == x) > 0.8
    return losses


def controlnet(steps):
    """A network that was trained for pictures of both signs learns to draw the sign of the hint."""
    page, rng = load("controlnet"), np.random.default_rng(0)
    weight = lambda *shape: 0.3 * rng.standard_normal(shape)
    first = {"in": weight(4, 1, 3, 3), "down": weight(6, 4, 3, 3)}
    base = first | {"out": weight(1, 10, 3, 3)}

    def encoder(p, x, t, more):
        first = ops.conv2d(x, p["in"], padding=1) + more
        return [first, ops.silu(ops.conv2d(ops.silu(first), p["down"], padding=1))]

    def decoder(p, maps, t):
        return ops.conv2d(np.concatenate(maps, axis=1), p["out"], padding=1)

    params = page.init(first, (4, 6), 1, 8, rng)
    update, alpha_bar = optimizer(params), np.array([1.0, 0.5])  # one step, from half noise
    c = np.ones((32, 1, 4, 4)) * rng.choice([-1.0, 1.0], (32, 1, 1, 1))
    losses = [
        page.train_step(base, params, encoder, decoder, 2 * c, c, alpha_bar, rng, update)
        for _ in range(steps)
    ]
    drawn = page.sample(base, params, encoder, decoder, c, c.shape, alpha_bar, rng)
    assert steps < 50 or np.mean(np.sign(drawn) == c) > 0.9
    return losses


def clip(steps):
    """Pictures of one color in two channels, and texts of two words: what the channels hold."""
    page, rng = load("clip"), np.random.default_rng(0)
    params = page.init(5, 3, 4, 2, 2, 1, 16, 16, rng)
    update = optimizer(params, 0.005)
    words = np.array([[0, 2], [0, 3], [1, 2], [1, 3]])
    y = np.concatenate([words, np.full((4, 1), 4)], axis=1)  # (4, 3), with the end token
    x = (2 * words - [1, 5])[:, :, None, None] * np.ones((4, 4))  # (4, 2, 4, 4)
    losses = [page.train_step(params, x, y, 1, 2, update) for _ in range(steps)]
    z = page.logits(params, x[:3], y, 1, 2)
    assert z.shape == (3, 4)
    assert steps < 50 or z.argmax(axis=1).tolist() == [0, 1, 2]
    return losses


def ppo(steps):
    """A game of two actions: the right one is told by the sign of the state."""
    page, rng = load("ppo"), np.random.default_rng(0)
    params = page.init(3, 8, 2, rng)
    update, rewards = optimizer(params, 0.01), []
    for _ in range(steps):
        s = rng.standard_normal((4, 9, 3))
        a = np.stack([page.act(params, s[:, t], rng) for t in range(8)], axis=1)
        r = (a == (s[:, :-1, 0] > 0)).astype(float)
        assert np.isfinite(page.train_step(params, (s, a, r, np.ones((4, 8), bool)), update, rng))
        rewards.append(-r.mean())
    return [np.mean(rewards[:2]), np.mean(rewards[-2:])]


def dpo(steps):
    page, model, rng = load("dpo"), load("gpt"), np.random.default_rng(0)
    params = model.init(7, 8, 1, 8, rng)
    params_ref, update = dict(params), optimizer(params)
    y_w, y_l = np.array([[0, 1, 2, 3], [0, 1, 3, 3]]), np.array([[0, 1, 4, 5], [0, 1, 5, 5]])
    mask = np.array([[False, False, True, True]] * 2)
    policy = lambda p, tokens: model.gpt(p, tokens, 1, 2)
    pairs = (y_w, mask, y_l, mask)
    losses = [page.train_step(policy, params, params_ref, *pairs, 0.5, update) for _ in range(steps)]
    rewards = [page.implicit_reward(policy, params, params_ref, y, mask, 0.5) for y in (y_w, y_l)]
    assert np.all(rewards[0] > rewards[1])
    np.testing.assert_allclose(losses[0], np.log(2))  # at the start, π is π_ref
    return losses


def adamw(steps):
    page = load("adamw")
    params = {"x": np.array([1.0, 1.0]), "y": np.array(3.0)}
    opt = page.AdamW(params, 0.1, eta=lambda t: 1 - t / (steps + 1))
    f = lambda p: np.sum(np.array([1.0, 100.0]) * p["x"] ** 2) + (p["y"] - 2) ** 2
    return [page.train_step(f, params, opt) for _ in range(steps)]


def em(steps):
    """Three narrow clusters, whose means and weights it finds."""
    page, rng = load("em"), np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    x = np.repeat(means, [30, 20, 10], axis=0) + 0.1 * rng.standard_normal((60, 2))
    params = page.init(x, 3, rng)
    losses = [page.train_step(params, x) for _ in range(steps)]
    assert np.all(np.diff(losses) < 1e-12)
    drawn = page.sample(params, 20, rng)
    assert drawn.shape == (20, 2)
    order = np.argsort(-params["pi"])
    assert steps < 30 or np.allclose(params["mu"][order], means, atol=0.1)
    assert steps < 30 or np.min(np.abs(drawn[:, None] - means).max(axis=2), axis=1).max() < 0.5
    return losses


def gan(steps):
    """Points on a line, at -1 and 1. The losses of both players end where they began, so that the quality of
    the points is returned: their mean distance to the data, with both sorted."""
    page, rng = load("gan"), np.random.default_rng(0)
    g, d = page.init(1, 2, 16, rng)
    update_g, update_d = (load("adamw").AdamW(p, 0.005, 0.0, 0.99).update for p in (g, d))
    data = lambda n: rng.choice([-1.0, 1.0], (n, 1)) + 0.1 * rng.standard_normal((n, 1))
    distance = lambda: np.mean(np.abs(np.sort(page.sample(g, 500, rng)[:, 0]) - np.sort(data(500)[:, 0])))
    before = distance()
    for _ in range(steps):
        losses = page.train_step(g, d, data(64), 0.1, rng, update_g, update_d)
        assert np.all(np.isfinite(losses))
    return [before, distance()]


def all_reduce(steps):
    """Three processes learn a linear map, by ring and tree in turns. All have the same losses and parameters,
    to the last bit."""
    page, rng = load("all_reduce"), np.random.default_rng(0)
    x, truth = rng.standard_normal((16, 4)), rng.standard_normal((4, 2))
    parts = np.array_split(np.arange(16), 3)  # of 6, 5 and 5 rows

    def work(comm):
        params, rows = page.init(4, 2, np.random.default_rng(1)), parts[comm.rank]
        update = optimizer(params, 0.1)
        ways = (page.ring_all_reduce, page.tree_all_reduce)
        step = lambda i: page.train_step(params, x[rows], x[rows] @ truth, comm, update, ways[i % 2])
        return [step(i) for i in range(steps)], params

    found = run_processes(3, work)
    for losses, params in found[1:]:
        assert losses == found[0][0]
        assert all(np.array_equal(params[name], w) for name, w in found[0][1].items())
    return found[0][0]


def style(steps):
    """From the content: the loss is the style's at first."""
    page, rng = load("style"), np.random.default_rng(0)
    layers = page.init([6, 8], rng)
    content, pattern = rng.uniform(-1, 1, (2, 3, 8, 8))
    P, A = page.targets(layers, content, np.sign(pattern))
    params, update = {"x": content.copy()}, optimizer({"x": content}, 0.05)
    return [page.train_step(params, layers, P, A, 1e-4, update) for _ in range(steps)]


PAGES_USED = (engine, gpt, bert, llama, translation, vae, ddpm, flow_matching, latent_diffusion, controlnet)
PAGES_USED += (hierarchical_vae, clip, ppo, dpo, adamw, em, gan, lstm, wavenet, all_reduce, style)
USES = {f.__name__: f for f in PAGES_USED}
