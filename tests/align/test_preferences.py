"""Learning from comparisons: the losses of the reward model, of DPO and IPO, and the optimum of DPO."""

import itertools
import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from policies import gpt, small_world, table_for

from tinygen import Tensor, gradcheck, nn, no_grad
from tinygen.align.dpo import dpo_loss, implicit_rewards, ipo_loss, margins, response_log_probs
from tinygen.align.reward import RewardModel, pairwise_loss, ranking_loss
from tinygen.align.rollouts import Responses, response_mask, token_log_probs
from tinygen.align.world import kl, optimum, preference, total_variation
from tinygen.optim import Adam
from tinygen.storage.state import same_arrays


def arrays(*shape, n):
    return tuple(np.random.default_rng(0).standard_normal((n, *shape)))


def tokens(b, t, vocab_size=4, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, (b, t))


# -- the reward model ------------------------------------------------------------------------------


def test_the_loss_of_a_pair_by_hand():
    """Bradley and Terry: better by 2 is preferred with probability 1/(1 + e^-2)."""
    assert pairwise_loss(np.array([3.0]), np.array([1.0])).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert pairwise_loss(np.array([1.0]), np.array([3.0])).item() == pytest.approx(math.log(1 + math.exp(2)))


def test_a_ranking_is_the_mean_of_its_pairs():
    scores = np.random.default_rng(0).standard_normal((5, 4))
    pairs = [pairwise_loss(scores[:, i], scores[:, j]).item() for i, j in itertools.combinations(range(4), 2)]
    assert len(pairs) == 6
    assert ranking_loss(scores).item() == pytest.approx(np.mean(pairs), rel=1e-12)
    assert ranking_loss(scores[:, :2]).item() == pytest.approx(pairs[0], rel=1e-12)
    assert ranking_loss(np.zeros((5, 4))).item() == pytest.approx(math.log(2), rel=1e-12)
    assert gradcheck(ranking_loss, scores)


def test_the_score_is_read_at_the_last_token():
    rng = np.random.default_rng(0)
    model = RewardModel(gpt(), rng=rng).astype(np.float64)
    x = tokens(6, 7)
    mask = response_mask(x, 2, end=0)
    score = model.score(Responses(x, mask)).numpy()
    for b in range(6):
        end = int(np.flatnonzero(mask[b])[-1])
        assert score[b] == pytest.approx(model(x[b : b + 1, : end + 1]).numpy()[0, -1], rel=1e-12)
    other = np.where(mask | (np.arange(7) < 2), x, 3)  # other padding
    np.testing.assert_array_equal(model.score(Responses(other, mask)).numpy(), score)


def test_the_reward_model_is_a_copy():
    """It starts with the policy's features, shares nothing with it, and has no dropout."""
    policy = gpt(dropout=0.5)
    model = RewardModel(policy, rng=np.random.default_rng(0))
    x = tokens(3, 5)
    np.testing.assert_array_equal(model(x).numpy(), model(x).numpy())
    before = model(x).numpy()
    assert not {id(p) for p in model.parameters()} & {id(p) for p in policy.parameters()}
    policy.wte.weight.data += 1
    np.testing.assert_array_equal(model(x).numpy(), before)
    critic = model.critic()
    np.testing.assert_array_equal(critic(x).numpy(), before)
    model.head.weight.data += 1
    np.testing.assert_array_equal(critic(x).numpy(), before)


def test_the_head_starts_with_variance_one_over_channels_plus_one():
    """16,384 draws: their variance within 6 standard deviations sqrt(2/n) of it."""
    policy = gpt(n_embd=16384, n_head=1, n_layer=0, vocab_size=2, block_size=1)
    head = RewardModel(policy, rng=np.random.default_rng(0)).head
    assert head.weight.shape == (1, 16384)
    assert abs(np.var(head.weight.numpy()) * 16385 - 1) < 6 * math.sqrt(2 / 16384)
    assert head.bias.numpy() == 0


def test_the_draws_of_the_head():
    """One layer of one output, then N(0, 1/(C + 1)) in place of its weight. To the last bit: from the same
    seed comes the same model."""
    policy, rng = gpt(), np.random.default_rng(3)
    nn.Linear(8, 1, rng=rng)
    expected = nn.init.normal((1, 8), 1 / 3, rng=rng)
    np.testing.assert_array_equal(RewardModel(policy, rng=3).head.weight.data, expected)


def test_normalizing():
    model = RewardModel(gpt(), rng=np.random.default_rng(0))
    x = tokens(50, 6)
    mask = response_mask(x, 2)
    first = model.score(Responses(x, mask)).numpy()
    for scale, shift in ((1.0, 0.0), (3.0, 5.0)):  # also on top of another scale
        model.scale.data[...], model.shift.data[...] = scale, shift
        model.normalize(model.score(Responses(x, mask)).numpy())
        scores = model.score(Responses(x, mask)).numpy()
        assert scores.mean() == pytest.approx(0, abs=1e-5)
        assert scores.std() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(first))
    copy = RewardModel(gpt(), rng=np.random.default_rng(1))
    copy.load_state_dict(model.state_dict())  # the scale is saved with it
    np.testing.assert_array_equal(copy.score(Responses(x, mask)).numpy(), scores)
    with pytest.raises(ValueError, match="cannot be scaled"):
        model.normalize(np.ones(3))


def test_a_state_with_the_names_of_before_is_read():
    model, other = (RewardModel(gpt(), rng=np.random.default_rng(i)) for i in range(2))
    model.scale.data[...], model.shift.data[...] = 3.0, 5.0
    state = model.state_dict()
    before = {{"scale": "gain", "shift": "bias"}.get(name, name): array for name, array in state.items()}
    assert {"gain", "bias", "head.bias"} <= set(before)
    assert other.load_state_dict(before) == ([], [])
    assert same_arrays(other.state_dict(), state)
    with pytest.raises(ValueError, match=r"missing: scale \(\)"):  # a state without it is refused as before
        other.load_state_dict({name: array for name, array in before.items() if name != "gain"})


# -- DPO and IPO -----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_start_is_ln_two_with_slope_minus_half_beta(beta):
    """A policy that is its reference, on texts: margins 0, the loss ln 2; the slope by each pair's margin."""
    policy = gpt()
    chosen, rejected = tokens(5, 7), tokens(5, 7, seed=1)
    scored = lambda x: response_log_probs(token_log_probs(policy, x), response_mask(x, 2)[:, 1:])
    with no_grad():
        ref = [scored(x).numpy() for x in (chosen, rejected)]
    h = margins(scored(chosen), scored(rejected), *ref)
    np.testing.assert_array_equal(h.numpy(), 0)
    assert dpo_loss(h, beta).item() == pytest.approx(math.log(2), rel=1e-15)
    at_zero = Tensor(np.zeros(5), requires_grad=True)
    dpo_loss(at_zero, beta).backward()
    np.testing.assert_allclose(5 * at_zero.grad, -beta / 2, rtol=1e-15)
    assert ipo_loss(h, beta).item() == pytest.approx(1 / (2 * beta) ** 2)


def test_the_sum_and_the_mean_over_tokens():
    logp = np.random.default_rng(0).standard_normal((3, 5))
    mask = np.arange(5) < np.array([[5], [2], [3]])
    for b, n in enumerate((5, 2, 3)):
        assert response_log_probs(logp, mask)[b] == pytest.approx(logp[b, :n].sum())
        assert response_log_probs(logp, mask, length_normalize=True)[b] == pytest.approx(logp[b, :n].mean())


def test_losses_by_hand():
    chosen, rejected, ref_chosen, ref_rejected = arrays(6, n=4)
    h = margins(chosen, rejected, ref_chosen, ref_rejected)
    np.testing.assert_allclose(h, (chosen - ref_chosen) - (rejected - ref_rejected), rtol=1e-12)
    reward = implicit_rewards(chosen, ref_chosen, 0.3) - implicit_rewards(rejected, ref_rejected, 0.3)
    np.testing.assert_allclose(reward, 0.3 * h, rtol=1e-12)
    log_sigmoid = lambda x: -np.log1p(np.exp(-x))
    assert dpo_loss(h, 0.3).item() == pytest.approx(-log_sigmoid(0.3 * h).mean(), rel=1e-12)
    conservative = -0.9 * log_sigmoid(0.3 * h) - 0.1 * log_sigmoid(-0.3 * h)
    assert dpo_loss(h, 0.3, smoothing=0.1).item() == pytest.approx(conservative.mean(), rel=1e-12)
    assert ipo_loss(h, 0.5) == pytest.approx(np.mean((h - 1) ** 2), rel=1e-12)
    assert np.isfinite(dpo_loss(np.array([-1e4, 1e4]), 1.0).item())
    for loss in (dpo_loss, ipo_loss, lambda x: dpo_loss(x, 0.3, 0.1)):
        assert gradcheck(loss, h)


def by_trl(kind, chosen, rejected, ref_chosen, ref_rejected, mask, beta, smoothing=0.0):
    """The loss of Hugging Face's DPOTrainer, and its gradient by the log-probabilities (2B, T) of tokens that
    follow a first one; the texts themselves do not matter to it."""
    torch, trl = pytest.importorskip("torch"), pytest.importorskip("trl")
    x = torch.tensor(np.concatenate([chosen, rejected]), requires_grad=True)
    counted = torch.tensor(np.concatenate([mask[0], mask[1]]))
    whole = torch.nn.functional.pad(counted, (1, 0)).long()
    ref = torch.tensor(np.concatenate([ref_chosen, ref_rejected]))
    ref = torch.where(counted, ref, 0.0).sum(dim=1).chunk(2)
    of_tokens = torch.where(counted, x, 0.0)
    output = SimpleNamespace(log_probs=of_tokens, entropy=of_tokens, mean_logits=of_tokens, is_top1=counted)
    trainer = MagicMock(  # what it only writes down goes nowhere
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=smoothing,
        use_weighting=False,
        _total_train_tokens=0,
        _tp_size=1,
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
    )
    inputs = {"input_ids": whole, "attention_mask": whole, "completion_mask": whole}
    inputs |= {"ref_chosen_logps": ref[0], "ref_rejected_logps": ref[1]}
    loss = trl.DPOTrainer._compute_loss(trainer, lambda **_: output, inputs, False)
    loss.backward()
    return loss.item(), x.grad.numpy()


def test_trl():
    """Sigmoid, IPO (for which trl takes the mean over tokens), the conservative loss; and gradients. For
    wrong labels trl has the "robust" loss (Chowdhury et al. 2024), of which the conservative one follows:
    (1 - 2ε) robust = (1 - ε) plain - ε flipped, so that conservative = 2 (1 - ε) plain - (1 - 2ε) robust."""
    pytest.importorskip("trl")
    pi = arrays(6, 8, n=4)
    mask = np.arange(8) < np.random.default_rng(1).integers(1, 9, (2, 6, 1))

    def ours(loss, mean=False):
        live = [Tensor(x, requires_grad=True) for x in pi[:2]]
        of = lambda i: response_log_probs([*live, *pi[2:]][i], mask[i % 2], mean)
        value = loss(margins(*map(of, range(4))))
        value.backward()
        return value.item(), np.concatenate([x.grad for x in live])

    plain, robust = (by_trl(kind, *pi, mask, 0.3, 0.1) for kind in ("sigmoid", "robust"))
    conservative = [2 * 0.9 * a - 0.8 * b for a, b in zip(plain, robust, strict=True)]
    for wanted, got in (
        (plain, ours(lambda h: dpo_loss(h, 0.3))),
        (conservative, ours(lambda h: dpo_loss(h, 0.3, 0.1))),
        (by_trl("ipo", *pi, mask, 0.2), ours(lambda h: ipo_loss(h, 0.2), mean=True)),
    ):
        assert got[0] == pytest.approx(wanted[0], rel=1e-10)
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(("smoothing", "margin"), [(0.1, math.log(9)), (0.3, math.log(7 / 3))])
def test_where_each_loss_is_smallest(smoothing, margin):
    """Conservative: where σ(βh) = 1 - ε. IPO: at 1/(2τ). The plain loss: nowhere."""
    for loss, best in (
        (lambda h: dpo_loss(h, 0.5, smoothing), margin / 0.5),
        (lambda h: ipo_loss(h, 0.25), 2.0),
    ):
        h = Tensor(np.array([best]), requires_grad=True)
        loss(h).backward()
        assert h.grad[0] == pytest.approx(0, abs=1e-12)
    h = Tensor(np.array([50.0]), requires_grad=True)
    dpo_loss(h, 0.5).backward()
    assert h.grad[0] < 0


# -- where DPO ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "temperature"), [(0.5, 1.0), (1.0, 0.5)])
def test_the_optimum_of_dpo_is_the_optimum(beta, temperature):
    """The loss on all pairs of responses, labelled by Bradley and Terry's odds (which for one pair is the
    conservative loss with the odds of a wrong label), is smallest at π* for rewards divided by the odds'
    temperature. How often each pair comes does not matter to a policy that can be anything."""
    world = small_world(vocab_size=3, length=2)
    policy = table_for(world)
    with no_grad():
        log_ref = world.log_probs(policy).numpy()
    best = optimum(log_ref, world.rewards / temperature, beta)
    assert total_variation(log_ref, best) > 0.2
    a, b = np.indices((9, 9)).reshape(2, -1)
    wrong = 1 - preference(world.rewards[:, a], world.rewards[:, b], temperature)
    optimizer = Adam(policy.parameters(), lr=0.1)
    for step in range(400):
        optimizer.lr = 0.1 * (1 - step / 400)
        live = world.log_probs(policy)
        h = margins(live[:, a], live[:, b], log_ref[:, a], log_ref[:, b])
        optimizer.zero_grad()
        dpo_loss(h, beta, wrong).backward()
        optimizer.step()
    with no_grad():
        final = world.log_probs(policy).numpy()
    assert total_variation(final, best) < 0.005
    assert kl(best, final) < 1e-4
