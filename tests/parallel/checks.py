"""What must hold for every number of processes: `check_...(comm)` is called in all of them. The tests run the
checks in threads (`test_threads.py`), and in processes by MPI (`test_mpi.py`):

    mpiexec -n 2 python -m mpi4py tests/parallel/checks.py
"""

import sys
import time

import numpy as np

from tinygen import diffusion, nn, ops
from tinygen.align.ppo import policy_loss, value_loss, whiten
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import r1_penalty
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.optim import EMA, AdamW, clip_grad_norm
from tinygen.parallel import (
    Epochs,
    ShardedOptimizer,
    average_gradients,
    batch_loss,
    broadcast,
    fingerprint,
    gather,
    require_same,
    share,
)

ROWS = 7  # no multiple of 2 or 4: the parts are unequal


def double(model):
    return model.astype(np.float64)


# -- losses: a model, and its loss on some rows of a batch -----------------------------------------


def gpt(rng):
    """Dropout, and tokens that do not count: none in the first rows, most in the last."""
    model = double(GPT(GPTConfig(5, 6, 2, 2, 8, 0.3), rng=rng))
    ids = np.random.default_rng(1).integers(5, size=(ROWS, 7))
    x, y = ids[:, :-1], ids[:, 1:].copy()
    for i in range(ROWS):
        y[i, 6 - i :] = -1 if i < 6 else y[i, 6 - i :]
    y[5:] = -1  # no token of the last rows counts
    return model, lambda rows: model(x[rows], y[rows])[1]


def bert(rng):
    """Two means of one batch, over different counts."""
    model = double(BERT(BERTConfig(6, 8, 1, 2, 8, 8, dropout=0.2), rng=rng))
    draws = np.random.default_rng(1)
    ids, hidden = draws.integers(6, size=(ROWS, 8)), draws.random((ROWS, 8)) < 0.3
    targets, following = np.where(hidden, ids, -100), draws.integers(2, size=ROWS)
    return model, lambda rows: model.loss(ids[rows], targets[rows], random_next=following[rows])


def unet(rng):
    """Noise and time steps are drawn in the loss."""
    model = double(UNet(UNetConfig(1, 1, 8, (1, 2), 1, groups=2, dropout=0.1), rng=rng))
    x = np.random.default_rng(1).standard_normal((ROWS, 1, 4, 4))
    process = diffusion.Process(diffusion.cosine_schedule(20))
    return model, lambda rows: diffusion.simple_loss(process, model, x[rows], rng=rng)


def vae(rng):
    """Noise is drawn in the loss."""
    model = double(VAE(12, 8, 2, rng=rng))
    x = np.random.default_rng(1).random((ROWS, 12))
    return model, lambda rows: model.loss(x[rows], rng=rng)


class Convolutions(nn.Module):
    """Batch norm, twice, between convolutions, and dropout."""

    def __init__(self, rng):
        self.first, self.second = nn.Conv2d(2, 3, 3, rng=rng), nn.Conv2d(3, 2, 3, rng=rng)
        self.norms = [nn.BatchNorm(3), nn.BatchNorm(2)]
        self.dropout = nn.Dropout(0.3, rng=rng)

    def forward(self, x):
        x = self.dropout(np.tanh(self.norms[0](self.first(x))))
        return self.norms[1](self.second(x))


def batch_norm(rng):
    """The statistics are of the whole batch, and so are the running ones."""
    model = double(Convolutions(rng))
    draws = np.random.default_rng(1)
    x, target = draws.standard_normal((ROWS, 2, 7, 7)), draws.standard_normal((ROWS, 2, 3, 3))
    return model, lambda rows: ops.mse(model(x[rows]), target[rows])


def vqvae(rng):
    """The codebook has the running means of all that chose a code."""
    model = double(VQVAE(1, 4, 4, 5, ema=True, rng=rng))
    x = np.random.default_rng(1).random((ROWS, 1, 8, 8))
    return model, lambda rows: model.loss(x[rows])


def ppo(rng):
    """The advantages are whitened over the batch, and means are over a mask."""
    model = double(nn.Sequential(nn.Linear(3, 8, rng=rng), np.tanh, nn.Linear(8, 3, rng=rng)))
    draws = np.random.default_rng(1)
    states, mask = draws.standard_normal((ROWS, 4, 3)), draws.random((ROWS, 4)) < 0.5
    mask[0] = True
    actions, advantages = draws.integers(2, size=(ROWS, 4)), draws.standard_normal((ROWS, 4))
    returns, old = draws.standard_normal((ROWS, 4)), -0.7 + 0.1 * draws.standard_normal((ROWS, 4))

    def loss(rows):
        out, inside = model(states[rows]), mask[rows]
        log_probs = -ops.cross_entropy(out[..., :2], actions[rows], reduction="none")
        policy = policy_loss(log_probs, old[rows], whiten(advantages[rows], inside), inside)
        value = value_loss(out[..., 2], returns[rows] - 0.1, returns[rows], inside)
        return policy + 0.5 * value - 0.01 * ops.entropy(ops.log_softmax(out[..., :2]))

    return model, loss


LOSSES = [gpt, bert, unet, vae, batch_norm, vqvae, ppo]


def results(make, comm, bucket):
    """The loss, the gradients, the buffers and the generator after one backward pass."""
    rng = np.random.default_rng(0)
    model, loss_of = make(rng)
    with share(ROWS, comm) as rows:
        loss = loss_of(rows)
        with average_gradients(model.parameters(), comm, bucket):
            loss.backward()
        value = batch_loss(loss.item(), comm)
    grads = {name: p.grad for name, p in model.named_parameters()}
    buffers = {name: b.data for name, b in model.named_buffers()}
    generators = [g.bit_generator.state for _, g in model.named_generators()]
    return value, grads, buffers, [rng.bit_generator.state, *generators]


def check_gradients(comm):
    """k processes on parts of a batch have the gradients of one process on the whole."""
    for make in LOSSES:
        loss, grads, buffers, drawn = results(make, None, 0)
        for bucket in (1, 1 << 10, 1 << 30) if make is gpt else (1 << 10,):  # each alone, some, all together
            found = results(make, comm, bucket)
            assert abs(found[0] - loss) <= 1e-12 * max(1, abs(loss)), (make.__name__, found[0], loss)
            require_near(found[1], grads, make.__name__)
            require_near(found[2], buffers, make.__name__)
            assert found[3] == drawn, make.__name__
            require_same(found[1], comm)


def require_near(found, expected, name):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value is None or found[key] is None:
            assert found[key] is value, (name, key)
            continue
        error = np.abs(found[key] - value).max()
        assert error <= 1e-12, (name, key, error)


# -- training --------------------------------------------------------------------------------------


def train(comm, steps, sharded=False, saved=None):
    """Some steps of a small GPT in float32, with clipping, decay, an average and epochs. Returns all that
    has a state, by name."""
    rng = np.random.default_rng(0 if comm is None else comm.rank)  # the start is process 0's
    model = GPT(GPTConfig(5, 6, 1, 2, 8, 0.2), rng=rng)
    optimizer = AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    things = {
        "model": model,
        "optimizer": ShardedOptimizer(optimizer, comm) if sharded else optimizer,
        "ema": EMA(model, 0.9),
        "epochs": Epochs(10, 4, rng),
    }
    broadcast(things, comm)
    if saved is not None:
        from tinygen.storage.state import restore

        restore(things, saved)
    ids = np.random.default_rng(1).integers(5, size=(10, 7))
    for _ in range(steps):
        batch = ids[things["epochs"].next_batch()]
        with share(len(batch), comm) as rows:
            loss = model(batch[rows, :-1], batch[rows, 1:])[1]
            things["optimizer"].zero_grad()
            with average_gradients(model.parameters(), comm, 256):
                loss.backward()
        clip_grad_norm(model.parameters(), 0.5)
        things["optimizer"].step()
        things["ema"].update()
    return things


def check_training(comm):
    """All processes stay the same to the last bit, and near one process."""
    things, alone = train(comm, 3), train(None, 3)
    require_same(things, comm)
    for p, q in zip(things["model"].parameters(), alone["model"].parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=0, atol=1e-4)
    assert things["epochs"].state_dict()["position"] == alone["epochs"].state_dict()["position"]


def check_sharded(comm):
    """With the optimizer's state divided, the steps are the same to the last bit, and so is the state when
    it is gathered; each process keeps a part of it."""
    whole, divided = train(comm, 3), train(comm, 3, sharded=True)
    assert fingerprint(divided) == fingerprint(whole)
    states = divided["optimizer"].optimizer.state.values()
    kept = gather(sum(state["m"].size + state["v"].size for state in states), comm)
    numbers = sum(p.size for p in whole["model"].parameters())
    assert sum(kept) == 2 * numbers
    assert max(kept) < 2 * numbers * 0.75


def check_continued(comm):
    """A run that one process has begun goes on in k processes, and the other way around: the position in the
    data, the moments and the generators are of the whole run."""
    from tinygen.storage.state import copy_arrays, state_of

    straight = train(None, 4)
    for first, then, sharded in ((None, comm, False), (comm, None, True)):
        saved = copy_arrays(state_of(train(first, 2, sharded)))
        things = train(then, 2, sharded, saved)
        for p, q in zip(things["model"].parameters(), straight["model"].parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.data, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(things["epochs"].order, straight["epochs"].order)
        assert things["epochs"].position == straight["epochs"].position


def check_accumulation(comm):
    """Two halves of the batch, one after the other: only the second backward pass is in the block."""
    draws = np.random.default_rng(1)
    x, y = draws.standard_normal((2, 8, 3)), draws.standard_normal((2, 8, 2))
    model = double(nn.Linear(3, 2, rng=0))
    ops.mse(model(x.reshape(16, 3)), y.reshape(16, 2)).backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    model = double(nn.Linear(3, 2, rng=0))
    with share(8, comm) as rows:
        part = (rows.stop - rows.start) / 8
        (ops.mse(model(x[0][rows]), y[0][rows]) * part / 2).backward()
        with average_gradients(model.parameters(), comm):
            (ops.mse(model(x[1][rows]), y[1][rows]) / 2).backward()
    require_near({name: p.grad for name, p in model.named_parameters()}, expected, "accumulation")


def check_unused(comm):
    """A parameter that only some processes use has the sum of these; one that nobody uses has no gradient;
    and the order of the sums is the same all the same."""
    model = nn.Sequential(*(double(nn.Linear(2, 2, rng=i)) for i in range(3)))
    x = np.random.default_rng(0).standard_normal((4, 2))
    used = model[0](x)
    if comm.rank == 1:
        used = used + model[2](x)
    with average_gradients(model.parameters(), comm, 1):
        used.sum().backward()
    assert model[1].weight.grad is None
    np.testing.assert_allclose(model[0].bias.grad, 4.0)
    np.testing.assert_allclose(model[2].bias.grad, 4.0 / comm.size)
    require_same({name: p.grad for name, p in model.named_parameters()}, comm)


def check_two_players(comm):
    """A GAN: two models, two backward passes, each with its own gradients; R1 has gradients of gradients."""
    found = []
    for each in (None, comm):
        rng = np.random.default_rng(0)
        g, d = double(DenseGenerator(4, 8, 1, 3, rng=rng)), double(DenseDiscriminator(4, 8, 1, rng=rng))
        real, z = rng.standard_normal((ROWS, 4)), rng.standard_normal((ROWS, 3))
        with share(ROWS, each) as rows:
            loss_d = ops.mean(ops.softplus(-d(real[rows]))) + ops.mean(ops.softplus(d(g(z[rows]).data)))
            loss_d = loss_d + r1_penalty(d, real[rows])
            with average_gradients(d.parameters(), each):
                loss_d.backward()
            loss_g = ops.mean(ops.softplus(-d(g(z[rows]))))
            with average_gradients(g.parameters(), each):
                loss_g.backward()
        found.append({name: p.grad for name, p in g.named_parameters()})
        assert all(p.grad is not None for p in d.parameters())
    require_near(found[1], found[0], "two players")


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


def main():
    from tinygen.parallel import world

    comm = world()
    for check in CHECKS:
        if len(sys.argv) < 2 or check.__name__ in sys.argv[1:]:
            began = time.perf_counter()
            check(comm)
            if comm.rank == 0:
                print(f"{check.__name__} {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
